// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// OPT (Zhang et al. 2022, arXiv:2205.01068): GPT-2's layout with q, k, v apart, ReLU, and learned positions whose table begins two rows late.
/// Models with norms behind the joins, or word vectors of another width (OPT-350m), are refused.
const Architecture& opt_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/opt.inl"
#endif
