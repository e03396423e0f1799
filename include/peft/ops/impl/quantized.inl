// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "peft/core/bfloat16.hpp"
#include "peft/core/error.hpp"
#include "peft/core/float16.hpp"
#include "peft/core/parallel.hpp"
#include "peft/ops/impl/quantized_kernels.hpp"
#include "peft/ops/isa.hpp"
#include "peft/ops/quantized.hpp"

namespace peft::ops {

namespace detail {
inline void put_half(void* p, float value) {
  const Float16 h = to_float16(value);
  std::memcpy(p, &h, 2);
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

}  // namespace detail

template <Scalar T>
void widen(T* out, const void* row, DType type, std::int64_t first, std::int64_t n) {
  const detail::Widen<T> f = PEFT_DISPATCH(widener<T>, type);
  if (!f) throw Error("widen", std::string(name(type)) + " does not hold real numbers");
  f(out, static_cast<const std::byte*>(row), first, n);
}

template <Scalar T>
void widen(View<T> out, const WeightView& w) {
  if (out.rows != w.rows || out.cols != w.cols)
    throw ShapeError("widen", "a weight of " + to_string(Shape{w.rows, w.cols}) + " into " + to_string(Shape{out.rows, out.cols}));
  if (w.transposed) {
    for (std::int64_t c = 0; c < w.cols; c++)
      for (std::int64_t r = 0; r < w.rows; r++) widen(&out(r, c), w.data, w.dtype, c * w.stride + r, 1);
    return;
  }
  parallel_ranges(w.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; r++) widen(out.row(r), w.row(r), w.dtype, 0, w.cols);
  });
}

// The reference quantisers compute in float32, in this order; another order gives other bytes.
PEFT_INLINE void quantize(void* row, DType type, const float* values, std::int64_t n) {
  auto* out = static_cast<std::uint8_t*>(row);
  if (n % info(type).block != 0)
    throw ShapeError("quantize", "a row of " + std::to_string(n) + " values is not whole blocks of " + std::to_string(info(type).block) + " (" +
                                     std::string(name(type)) + ")");
  switch (type) {
    case DType::f32:
      std::copy_n(values, n, static_cast<float*>(row));
      return;
    case DType::f16:
      for (std::int64_t i = 0; i < n; i++) static_cast<Float16*>(row)[i] = to_float16(values[i]);
      return;
    case DType::bf16:
      for (std::int64_t i = 0; i < n; i++) static_cast<BFloat16*>(row)[i] = to_bfloat16(values[i]);
      return;
    case DType::q8_0:
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
      for (std::int64_t i = 0; i < n; i += 32, out += info(type).bytes) detail::quantize_block(out, type, values + i);
      return;
    default:
      break;
  }
  throw Error("quantize", std::string(name(type)) + " cannot be written; allowed are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1");
}

}  // namespace peft::ops
