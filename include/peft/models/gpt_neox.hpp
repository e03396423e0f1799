// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// GPT-NeoX (Black et al. 2022, arXiv:2204.06745) and Pythia: attention and MLP read the same residual side by side, a part of each head turns,
/// and q, k, v of a head lie side by side in one Linear.
const Architecture& gpt_neox_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/gpt_neox.inl"
#endif
