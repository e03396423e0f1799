// SPDX-License-Identifier: Apache-2.0
#pragma once

// Numbers as files hold them → tensors. Included by .inl files alone.

#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

#include "peft/core/bfloat16.hpp"
#include "peft/core/dtype.hpp"
#include "peft/core/float16.hpp"

namespace peft::detail {

/// Converts n numbers, which may be unaligned. Stops before the first integer that To does not hold exactly; returns how many it has done.
template <class To, class From>
std::int64_t convert(To* to, const std::byte* from, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i++) {
    From value;
    std::memcpy(&value, from + i * std::int64_t(sizeof(From)), sizeof(From));
    if constexpr (std::is_same_v<From, Float16> || std::is_same_v<From, BFloat16>) {
      to[i] = To(to_float(value));
    } else if constexpr (std::is_floating_point_v<From>) {
      to[i] = To(value);
    } else if constexpr (std::is_integral_v<To>) {
      if (!std::in_range<To>(value)) return i;
      to[i] = To(value);
    } else {
      // Exact if the significant bits fit: the odd part of the magnitude.
      std::uint64_t magnitude = value < 0 ? 0 - std::uint64_t(value) : std::uint64_t(value);
      while (magnitude && magnitude % 2 == 0) magnitude /= 2;
      if (magnitude >> std::numeric_limits<To>::digits) return i;
      to[i] = To(value);
    }
  }
  return n;
}

/// The same for a type that is known when the file is read; nothing for a type that is not read as To.
template <class To>
std::optional<std::int64_t> convert(To* to, DType type, const std::byte* from, std::int64_t n) {
  if constexpr (std::is_floating_point_v<To>) {
    switch (type) {
      case DType::f32:
        return convert<To, float>(to, from, n);
      case DType::f64:
        return convert<To, double>(to, from, n);
      case DType::f16:
        return convert<To, Float16>(to, from, n);
      case DType::bf16:
        return convert<To, BFloat16>(to, from, n);
      default:
        break;
    }
  }
  switch (type) {
    case DType::boolean: {
      const std::int64_t done = convert<To, std::uint8_t>(to, from, n);
      for (std::int64_t i = 0; i < done; i++) to[i] = To(to[i] != 0);
      return done;
    }
    case DType::u8:
      return convert<To, std::uint8_t>(to, from, n);
    case DType::i8:
      return convert<To, std::int8_t>(to, from, n);
    case DType::i16:
      return convert<To, std::int16_t>(to, from, n);
    case DType::u16:
      return convert<To, std::uint16_t>(to, from, n);
    case DType::i32:
      return convert<To, std::int32_t>(to, from, n);
    case DType::u32:
      return convert<To, std::uint32_t>(to, from, n);
    case DType::i64:
      return convert<To, std::int64_t>(to, from, n);
    case DType::u64:
      return convert<To, std::uint64_t>(to, from, n);
    default:
      return std::nullopt;
  }
}

}  // namespace peft::detail
