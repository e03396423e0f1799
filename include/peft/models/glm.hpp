// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// GLM-4-9B as transformers has it, "glm" (arXiv:2406.12793): half of each head turns, in pairs side by side; gate and up are one Linear; biases on
/// q, k and v.
const Architecture& glm_architecture();
/// GLM-4-0414, "glm4": the same with a norm behind each sublayer besides the one in front.
const Architecture& glm4_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/glm.inl"
#endif
