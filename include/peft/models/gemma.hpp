// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// Gemma (Mesnard et al. 2024, arXiv:2403.08295): word vectors times √hidden_size, norm weights stored as w − 1, GeGLU, a tied head.
const Architecture& gemma_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/gemma.inl"
#endif
