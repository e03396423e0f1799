// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "peft/core/bfloat16.hpp"
#include "peft/core/dtype.hpp"
#include "peft/core/float16.hpp"

namespace peft::ops::detail {

inline float half_at(const void* p) {
  Float16 h;
  std::memcpy(&h, p, 2);
  return to_float(h);
}
inline std::uint32_t word_at(const void* p) {
  std::uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}
inline void put_half(void* p, float value) {
  const Float16 h = to_float16(value);
  std::memcpy(p, &h, 2);
}
inline double number(double x) { return x; }
inline float number(float x) { return x; }
inline float number(Float16 x) { return to_float(x); }
inline float number(BFloat16 x) { return to_float(x); }

template <class S, class T>
void widen_plain(T* out, const std::byte* row, std::int64_t first, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i++) {
    S value;
    std::memcpy(&value, row + (first + i) * std::int64_t(sizeof(S)), sizeof(S));
    out[i] = T(number(value));
  }
}

// The six-bit scale and minimum of sub-block j in Q4_K and Q5_K.
inline void scale_and_minimum(const std::uint8_t* s, int j, int& scale, int& minimum) {
  if (j < 4)
    scale = s[j] & 63, minimum = s[j + 4] & 63;
  else
    scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4, minimum = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
}

// Elements 32 u … 32 u + 31 of a block. Layouts: GGUF's block types, one formula each; d and m are binary16.
inline void widen_unit(float* x, const std::byte* block, DType type, int u) {
  const auto* b = reinterpret_cast<const std::uint8_t*>(block);
  switch (type) {
    case DType::q4_0: {
      const float d = half_at(b);
      for (int l = 0; l < 16; l++) x[l] = d * float((b[2 + l] & 15) - 8), x[l + 16] = d * float((b[2 + l] >> 4) - 8);
      return;
    }
    case DType::q4_1: {
      const float d = half_at(b), m = half_at(b + 2);
      for (int l = 0; l < 16; l++) x[l] = d * float(b[4 + l] & 15) + m, x[l + 16] = d * float(b[4 + l] >> 4) + m;
      return;
    }
    case DType::q5_0: {
      const float d = half_at(b);
      const std::uint32_t high = word_at(b + 2);
      for (int l = 0; l < 16; l++) {
        x[l] = d * float(int((b[6 + l] & 15) | (high >> l & 1) << 4) - 16);
        x[l + 16] = d * float(int((b[6 + l] >> 4) | (high >> (l + 16) & 1) << 4) - 16);
      }
      return;
    }
    case DType::q5_1: {
      const float d = half_at(b), m = half_at(b + 2);
      const std::uint32_t high = word_at(b + 4);
      for (int l = 0; l < 16; l++) {
        x[l] = d * float((b[8 + l] & 15) | (high >> l & 1) << 4) + m;
        x[l + 16] = d * float((b[8 + l] >> 4) | (high >> (l + 16) & 1) << 4) + m;
      }
      return;
    }
    case DType::q8_0: {
      const float d = half_at(b);
      for (int l = 0; l < 32; l++) x[l] = d * float(std::int8_t(b[2 + l]));
      return;
    }
    case DType::q2_k: {
      const float d = half_at(b + 80), minimum = half_at(b + 82);
      const int h = u / 4, j = u % 4;
      for (int p = 0; p < 2; p++) {
        const int s = b[8 * h + 2 * j + p];
        const float scale = d * float(s & 15), shift = minimum * float(s >> 4);
        for (int l = 0; l < 16; l++) x[16 * p + l] = scale * float(b[16 + 32 * h + 16 * p + l] >> 2 * j & 3) - shift;
      }
      return;
    }
    case DType::q3_k: {
      const float d = half_at(b + 108);
      const std::uint8_t *high = b, *q = b + 32, *s = b + 96;
      const int h = u / 4, j = u % 4;
      for (int p = 0; p < 2; p++) {
        const int k = 2 * u + p, low4 = k < 8 ? s[k] & 15 : s[k - 8] >> 4, high2 = s[8 + k % 4] >> 2 * (k / 4) & 3;
        const float scale = d * float((low4 | high2 << 4) - 32);
        for (int l = 0; l < 16; l++) x[16 * p + l] = scale * float((q[32 * h + 16 * p + l] >> 2 * j & 3) - (high[16 * p + l] >> (4 * h + j) & 1 ? 0 : 4));
      }
      return;
    }
    case DType::q4_k:
    case DType::q5_k: {
      const bool five = type == DType::q5_k;
      int s, m;
      scale_and_minimum(b + 4, u, s, m);
      const float scale = half_at(b) * float(s), shift = half_at(b + 2) * float(m);
      const std::uint8_t *high = b + 16, *q = b + (five ? 48 : 16) + 32 * (u / 2);
      for (int l = 0; l < 32; l++) x[l] = scale * float((q[l] >> 4 * (u % 2) & 15) + (five ? (high[l] >> u & 1) << 4 : 0)) - shift;
      return;
    }
    default: {  // Q6_K
      const float d = half_at(b + 208);
      const int h = u / 4, i = u % 4;
      const std::uint8_t *low = b + 64 * h + 32 * (i % 2), *high = b + 128 + 32 * h;
      for (int p = 0; p < 2; p++) {
        const float scale = d * float(std::int8_t(b[192 + 8 * h + 2 * i + p]));
        for (int l = 16 * p; l < 16 * p + 16; l++) x[l] = scale * float(((low[l] >> 4 * (i / 2) & 15) | (high[l] >> 2 * i & 3) << 4) - 32);
      }
    }
  }
}

// The product as it is rounded to float32, whatever the unit's flags: no FMA with what is added next.
inline float rounded(float product) {
  asm("" : "+m"(product));
  return product;
}
// One block of 32 as ggml's reference quantisers write it: float32, in this order; another order gives other bytes.
inline void quantize_block(std::uint8_t* out, DType type, const float* x) {
  float largest = 0, signed_largest = 0, low = x[0], high = x[0];
  for (int l = 0; l < 32; l++) {
    if (largest < std::fabs(x[l])) largest = std::fabs(x[l]), signed_largest = x[l];
    low = std::min(low, x[l]), high = std::max(high, x[l]);
  }
  if (type == DType::q8_0) {
    const float d = largest / 127, inverse = d != 0 ? 1 / d : 0;
    put_half(out, d);
    for (int l = 0; l < 32; l++) out[2 + l] = std::uint8_t(std::int8_t(std::roundf(x[l] * inverse)));
    return;
  }
  const bool offset = type == DType::q4_1 || type == DType::q5_1, five = type == DType::q5_0 || type == DType::q5_1;
  const int top = five ? 31 : 15;
  const float d = offset ? (high - low) / float(top) : signed_largest / (five ? -16.f : -8.f), inverse = d != 0 ? 1 / d : 0;
  // Rounding by adding a half: the middle of the range is added where there is no minimum.
  const float base = offset ? low : 0, middle = offset ? 0.5f : five ? 16.5f : 8.5f;
  put_half(out, d), out += 2;
  if (offset) put_half(out, low), out += 2;
  std::uint32_t bits = 0;
  std::uint8_t* q = out + (five ? 4 : 0);
  for (int l = 0; l < 16; l++) {
    const float scaled0 = rounded((x[l] - base) * inverse), scaled1 = rounded((x[l + 16] - base) * inverse);
    const int q0 = std::min(top, int(scaled0 + middle)), q1 = std::min(top, int(scaled1 + middle));
    q[l] = std::uint8_t((q0 & 15) | (q1 & 15) << 4);
    bits |= std::uint32_t(q0 >> 4 & 1) << l | std::uint32_t(q1 >> 4 & 1) << (l + 16);
  }
  if (five) std::memcpy(out, &bits, 4);
}

}  // namespace peft::ops::detail
