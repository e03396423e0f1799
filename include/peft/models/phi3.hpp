// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// Phi-3 (Abdin et al. 2024, arXiv:2404.14219): q, k and v are one Linear, gate and up another; a sliding window. Its long rotary scaling is
/// refused.
const Architecture& phi3_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/phi3.inl"
#endif
