// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// Llama 1-3, SmolLM2, TinyLlama (Touvron et al. 2023, arXiv:2302.13971): RMSNorm in front, rotary halves, grouped queries, SwiGLU, no biases.
const Architecture& llama_architecture();

namespace detail {
/// Llama's names, which others share.
std::span<const TensorName> llama_names();
}  // namespace detail

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/llama.inl"
#endif
