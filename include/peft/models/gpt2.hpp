// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// GPT-2 (Radford et al. 2019): learned positions, layer norms and biases everywhere, one Linear for q, k and v, a plain MLP, a tied head. Hugging
/// Face stores its matrices (in, out).
const Architecture& gpt2_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/gpt2.inl"
#endif
