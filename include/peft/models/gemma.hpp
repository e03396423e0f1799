// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// Gemma (Mesnard et al. 2024, arXiv:2403.08295): word vectors times √hidden_size, norm weights stored as w − 1, GeGLU, a tied head.
const Architecture& gemma_architecture();
/// Gemma 2 (Riviere et al. 2024, arXiv:2408.00118): norms around both sublayers, a window in every other layer from the first on, scores and logits
/// behind a soft cap, and a scale of the scores of its own.
const Architecture& gemma2_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/gemma.inl"
#endif
