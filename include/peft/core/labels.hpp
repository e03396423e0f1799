// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace peft {

/// A label that does not count, as in PyTorch and Hugging Face.
inline constexpr std::int32_t ignore_index = -100;

}  // namespace peft
