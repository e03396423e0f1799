// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// Qwen 2 and 2.5 (arXiv:2407.10671): Llama with biases on q, k and v; a sliding window in the upper layers if the file asks for it.
const Architecture& qwen2_architecture();
/// Qwen 3 (arXiv:2505.09388): no biases; each head of q and k is normalised, and head_dim is a number of its own.
const Architecture& qwen3_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/qwen.inl"
#endif
