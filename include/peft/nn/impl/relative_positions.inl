// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include "peft/nn/relative_positions.hpp"

namespace peft {

PEFT_INLINE std::int32_t relative_bucket(std::int64_t distance, bool bidirectional, std::int64_t buckets, std::int64_t max_distance) {
  std::int64_t first = 0, n = std::max<std::int64_t>(-distance, 0);
  if (bidirectional) {
    buckets /= 2, n = std::abs(distance);
    if (distance > 0) first = buckets;
  }
  const std::int64_t exact = buckets / 2;
  if (n < exact) return std::int32_t(first + n);
  const float part = std::log(float(n) / float(exact)) / float(std::log(double(max_distance) / double(exact)));
  return std::int32_t(first + std::min(exact + std::int64_t(part * float(buckets - exact)), buckets - 1));
}

}  // namespace peft
