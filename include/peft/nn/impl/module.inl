// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>

#include "peft/nn/module.hpp"

namespace peft {

PEFT_INLINE std::string to_string(const ParameterCount& count) {
  const auto grouped = [](std::int64_t n) {
    std::string digits = std::to_string(n);
    for (std::ptrdiff_t i = std::ptrdiff_t(digits.size()) - 3; i > 0; i -= 3) digits.insert(std::size_t(i), ",");
    return digits;
  };
  char percent[32];
  std::snprintf(percent, sizeof percent, "%.4f", count.total ? 100.0 * double(count.trainable) / double(count.total) : 0.0);
  return "trainable params: " + grouped(count.trainable) + " || all params: " + grouped(count.total) + " || trainable%: " + percent;
}

}  // namespace peft
