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
#include "peft/ops/impl/quantized_blocks.hpp"
#include "peft/ops/quantized.hpp"

namespace peft::ops {

template <Scalar T>
void widen(T* out, const void* row, DType type, std::int64_t first, std::int64_t n) {
  const auto* bytes = static_cast<const std::byte*>(row);
  switch (type) {
    case DType::f32:
      return detail::widen_plain<float>(out, bytes, first, n);
    case DType::f64:
      return detail::widen_plain<double>(out, bytes, first, n);
    case DType::f16:
      return detail::widen_plain<Float16>(out, bytes, first, n);
    case DType::bf16:
      return detail::widen_plain<BFloat16>(out, bytes, first, n);
    default:
      break;
  }
  if (!is_quantized(type)) throw Error("widen", std::string(name(type)) + " is not a storage type of real numbers");
  for (std::int64_t i = first; i < first + n;) {
    float unit[32];
    const std::int64_t begin = i % 32, end = std::min<std::int64_t>(32, begin + first + n - i);
    detail::widen_unit(unit, bytes + i / info(type).block * info(type).bytes, type, int(i % info(type).block / 32));
    for (std::int64_t j = begin; j < end; j++) *out++ = T(unit[j]);
    i += end - begin;
  }
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
