// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

namespace peft {

/// The upper half of a binary32, a storage type: 1 sign, 8 exponent, 7 mantissa bits.
struct BFloat16 {
  std::uint16_t bits = 0;
};

inline float to_float(BFloat16 b) { return std::bit_cast<float>(std::uint32_t(b.bits) << 16); }

/// Rounds to nearest, ties to even; keeps NaN a NaN.
inline BFloat16 to_bfloat16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return {std::uint16_t(bits >> 16 | 0x40)};
  return {std::uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

}  // namespace peft
