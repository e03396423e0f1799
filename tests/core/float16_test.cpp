// SPDX-License-Identifier: Apache-2.0
#include "peft/core/float16.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "peft/core/bfloat16.hpp"
#include "peft/core/random.hpp"

using namespace peft;

namespace {

// sign · 2^(exponent − bias) · 1.mantissa, from the definition of the format.
double value_of(unsigned bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1, mantissa = int(bits & ((1u << mantissa_bits) - 1)),
            exponent = int(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const double sign = bits >> (exponent_bits + mantissa_bits) & 1 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa ? std::numeric_limits<double>::quiet_NaN() : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

template <class Narrow>
Narrow narrow(float f) {
  if constexpr (std::is_same_v<Narrow, Float16>)
    return to_float16(f);
  else
    return to_bfloat16(f);
}
template <class Narrow>
constexpr int exponent_bits = std::is_same_v<Narrow, Float16> ? 5 : 8;
template <class Narrow>
constexpr int mantissa_bits = 15 - exponent_bits<Narrow>;

}  // namespace

TEMPLATE_TEST_CASE("every half and bfloat widens to its value and comes back as it was", "[core]", Float16, BFloat16) {
  int wrong = 0;
  for (unsigned bits = 0; bits < 0x10000; bits++) {
    const TestType narrow_value{std::uint16_t(bits)};
    const float f = to_float(narrow_value);
    const double want = value_of(bits, exponent_bits<TestType>, mantissa_bits<TestType>);
    if (std::isnan(want)) {
      wrong += !(std::isnan(f) && std::isnan(to_float(narrow<TestType>(f))));
      continue;
    }
    wrong += !(double(f) == want && std::signbit(f) == std::signbit(want) && narrow<TestType>(f).bits == bits);
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("what lies between two neighbours goes to the nearer, in the middle to the even one", "[core]", Float16, BFloat16) {
  int wrong = 0;
  for (unsigned bits = 0; bits + 1 < (0x7fffu >> mantissa_bits<TestType> << mantissa_bits<TestType>); bits++) {  // to the largest finite value
    const double low = double(to_float(TestType{std::uint16_t(bits)})), high = double(to_float(TestType{std::uint16_t(bits + 1)}));
    const float middle = float((low + high) / 2);  // exact: a binary32 has room for one more bit
    REQUIRE(double(middle) == (low + high) / 2);
    const unsigned even = bits % 2 ? bits + 1 : bits;
    for (const float sign : {1.0f, -1.0f}) {
      const unsigned sign_bit = sign < 0 ? 0x8000 : 0;
      wrong += narrow<TestType>(sign * middle).bits != (even | sign_bit);
      wrong += narrow<TestType>(sign * std::nextafter(middle, 0.0f)).bits != (bits | sign_bit);
      wrong += narrow<TestType>(sign * std::nextafter(middle, INFINITY)).bits != ((bits + 1) | sign_bit);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("halves overflow to infinity from the middle behind the largest on", "[core]") {
  CHECK(to_float16(65504).bits == 0x7bff);
  CHECK(to_float16(std::nextafter(65520.0f, 0.0f)).bits == 0x7bff);
  CHECK(to_float16(65520).bits == 0x7c00);
  CHECK(to_float16(-65520).bits == 0xfc00);
  CHECK(to_float16(INFINITY).bits == 0x7c00);
  CHECK(to_float16(std::numeric_limits<float>::max()).bits == 0x7c00);
  CHECK(to_float16(std::ldexp(1.0f, -25)).bits == 0);  // half of the smallest: a tie, zero is even
  CHECK(to_float16(std::nextafter(std::ldexp(1.0f, -25), 1.0f)).bits == 1);
  CHECK(to_float16(-std::numeric_limits<float>::denorm_min()).bits == 0x8000);
}

TEST_CASE("bfloats overflow to infinity and keep NaN a NaN", "[core]") {
  CHECK(to_bfloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(to_bfloat16(-INFINITY).bits == 0xff80);
  CHECK(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7f800001u)))));  // its low half alone says that it is one
  CHECK(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0xffffffffu)))));
  CHECK(std::isnan(to_float(to_float16(std::bit_cast<float>(0x7f800001u)))));
}
