// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// ChatGLM2-6B and ChatGLM3-6B, "chatglm" (arXiv:2406.12793), in the keys and names of their own files: queries in groups, q, k, v one Linear
/// with a bias, the first half of each head turns in pairs side by side, gate and up are one Linear. ChatGLM-6B, whose files have the same
/// model_type, is the other architecture.
const Architecture& chatglm_architecture();
/// ChatGLM-6B, "chatglm" with `inner_hidden_size` (Zeng et al. 2022, arXiv:2210.02414): it fills the blank that [gMASK] or [MASK] stands for, behind <sop>
/// (Blank), positions turn the halves of a head in two dimensions, and a sublayer's residual is √56 times its normalised input.
const Architecture& chatglm_6b_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/chatglm.inl"
#endif
