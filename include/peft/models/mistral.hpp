// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama with a sliding window.
const Architecture& mistral_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/mistral.inl"
#endif
