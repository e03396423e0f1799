// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

namespace peft {

/// IEEE 754 binary16, a storage type: 1 sign, 5 exponent, 10 mantissa bits.
struct Float16 {
  std::uint16_t bits = 0;
};

inline float to_float(Float16 h) {
  const std::uint32_t sign = std::uint32_t(h.bits & 0x8000) << 16, magnitude = h.bits & 0x7fff;
  if (magnitude >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);    // infinity, NaN
  if (magnitude >= 0x0400) return std::bit_cast<float>(sign | ((magnitude << 13) + ((127 - 15) << 23)));  // normal
  const float tiny = float(magnitude) * 0x1p-24f;                                                         // subnormal: magnitude · 2⁻²⁴
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(tiny));
}

/// Rounds to nearest, ties to even; overflows to infinity; keeps NaN a NaN.
inline Float16 to_float16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return {std::uint16_t(sign | 0x7e00)};
  if (magnitude >= 0x477ff000) return {std::uint16_t(sign | 0x7c00)};
  if (magnitude < 0x38800000) {  // below 2⁻¹⁴: the sum puts the rounded result into the low bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {std::uint16_t(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000))};
  }
  const std::uint32_t odd = magnitude >> 13 & 1;
  return {std::uint16_t(sign | ((magnitude - 0x38000000 + 0xfff + odd) >> 13))};
}

}  // namespace peft
