// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// ChatGLM2-6B and ChatGLM3-6B, "chatglm" (arXiv:2406.12793), in the keys and names of their own files: queries in groups, q, k, v one Linear
/// with a bias, the first half of each head turns in pairs side by side, gate and up are one Linear. ChatGLM-6B, whose files have the same
/// model_type, is another architecture: NotSupported.
const Architecture& chatglm_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/chatglm.inl"
#endif
