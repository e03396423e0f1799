// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

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

namespace detail {

// f(r, values) for each row r of w in Hugging Face's order, on all threads. A matrix that is stored transposed is read in strips.
template <class F>
void for_each_row_widened(const WeightView& w, const F& f) {
  constexpr std::int64_t strip = 16;
  parallel_ranges(w.rows, strip, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> rows(std::size_t((w.transposed ? strip : 1) * w.cols)), line(std::size_t{strip});
    for (std::int64_t first = begin; first < end; first += strip) {
      const std::int64_t last = std::min(end, first + strip);
      if (w.transposed)
        for (std::int64_t c = 0; c < w.cols; c++) {
          widen(line.data(), w.data, w.dtype, c * w.stride + first, last - first);
          for (std::int64_t r = first; r < last; r++) rows[std::size_t((r - first) * w.cols + c)] = line[std::size_t(r - first)];
        }
      for (std::int64_t r = first; r < last; r++) {
        if (!w.transposed) widen(rows.data(), w.row(r), w.dtype, 0, w.cols);
        f(r, static_cast<const float*>(rows.data() + (w.transposed ? (r - first) * w.cols : 0)));
      }
    }
  });
}

template <std::size_t n, class Values>
constexpr std::array<float, n> midpoints_of(const Values& values) {
  std::array<float, n> middles{};
  for (std::size_t i = 0; i < n; i++) middles[i] = (values[i] + values[i + 1]) / 2;
  return middles;
}
inline constexpr std::array<float, 15> nf4_midpoints = midpoints_of<15>(nf4_values);
inline constexpr std::array<float, 255> dynamic_midpoints = midpoints_of<255>(dynamic_values);

// Behind the code of its scale, which is not known yet. A code is the number of midpoints below the value: counted for all 64 at once, without a branch.
inline float put_nf4_block(std::uint8_t* out, const float* x) {
  float largest = 0, scaled[64];
  int codes[64] = {};
  for (int l = 0; l < 64; l++) largest = std::max(largest, std::fabs(x[l]));
  const float inverse = 1 / std::max(largest, 1e-38f);
  for (int l = 0; l < 64; l++) scaled[l] = x[l] * inverse;
  for (const float middle : nf4_midpoints)
    for (int l = 0; l < 64; l++) codes[l] += middle < scaled[l];
  for (int u = 0; u < 2; u++)
    for (int l = 0; l < 16; l++) out[1 + 16 * u + l] = std::uint8_t(codes[32 * u + l] | codes[32 * u + l + 16] << 4);
  return largest;
}

inline void put_nf4(std::byte* out, const WeightView& w) {
  const std::int64_t blocks = w.cols / Nf4::block, row_bytes = (blocks + 1) * Nf4::bytes, all = w.rows * blocks;
  const auto row_at = [&](std::int64_t r) { return reinterpret_cast<std::uint8_t*>(out) + r * row_bytes; };
  std::vector<float> scales(static_cast<std::size_t>(all));
  for_each_row_widened(w, [&](std::int64_t r, const float* x) {
    for (std::int64_t b = 0; b < blocks; b++) scales[std::size_t(r * blocks + b)] = put_nf4_block(row_at(r) + (b + 1) * Nf4::bytes, x + b * Nf4::block);
  });
  double sum = 0;
  for (float c : scales) sum += double(c);
  const float mean = all > 0 ? float(sum / double(all)) : 0;
  std::vector<float> seconds(std::size_t((all + Nf4::group - 1) / Nf4::group));
  for (std::size_t i = 0; i < scales.size(); i++) {
    float& second = seconds[i / Nf4::group];
    scales[i] -= mean, second = std::max(second, std::fabs(scales[i]));
  }
  for (std::int64_t r = 0; r < w.rows; r++) {
    std::uint8_t* row = row_at(r);
    const std::int64_t first = r * blocks, group = first / Nf4::group;
    std::memset(row, 0, Nf4::bytes);
    std::memcpy(row, &mean, 4);
    row[Nf4::place_at] = std::uint8_t(first % Nf4::group);
    for (std::int64_t b = 0; b < blocks; b++) {
      const std::int64_t of = (first + b) / Nf4::group;
      std::memcpy(row + Nf4::scales_at + 4 * (of - group), &seconds[std::size_t(of)], 4);
      const float inverse = 1 / std::max(seconds[std::size_t(of)], 1e-38f);
      row[(b + 1) * Nf4::bytes] = std::uint8_t(std::lower_bound(dynamic_midpoints.begin(), dynamic_midpoints.end(), scales[std::size_t(first + b)] * inverse) -
                                               dynamic_midpoints.begin());
    }
  }
}

}  // namespace detail

PEFT_INLINE bool quantizable(DType type, std::int64_t cols) {
  switch (type) {
    case DType::q8_0:
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
      return cols % info(type).block == 0;
    case DType::nf4:
      return cols % info(type).block == 0 && cols <= detail::Nf4::longest_row;
    default:
      return false;
  }
}

PEFT_INLINE std::string lower_name(DType type) {
  std::string text(name(type));
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  return text;
}
PEFT_INLINE DType quantizable_named(std::string_view operation, const std::string& what, std::string_view name) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < dtype_infos.size(); i++) {
    if (!quantizable(DType(i), 0)) continue;
    names.push_back(lower_name(DType(i)));
    if (names.back() == name) return DType(i);
  }
  throw ConfigError(std::string(operation), what + " \"" + std::string(name) + "\"" + did_you_mean(name, names, "allowed are"));
}

PEFT_INLINE OwnedWeight quantized(const WeightView& w, DType type) {
  if (!quantizable(type, 0)) throw ConfigError("quantized", std::string(name(type)) + "; allowed are NF4, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1");
  if (!quantizable(type, w.cols))
    throw ShapeError("quantized", "rows of " + std::to_string(w.cols) + " values are not whole blocks of " + std::to_string(info(type).block) + " (" +
                                      std::string(name(type)) + ")" + (type == DType::nf4 ? ", or longer than 98304" : ""));
  OwnedWeight owned{WeightView(nullptr, type, w.rows, w.cols), nullptr};
  if (type == DType::nf4) owned.view.stride += detail::Nf4::block;
  const std::int64_t row_bytes = bytes_of(type, owned.view.stride);
  const std::shared_ptr<std::byte[]> memory(new std::byte[std::size_t(w.rows * row_bytes)]);
  if (type == DType::nf4)
    detail::put_nf4(memory.get(), w);
  else
    detail::for_each_row_widened(w, [&](std::int64_t r, const float* x) { quantize(memory.get() + r * row_bytes, type, x, w.cols); });
  owned.view.data = memory.get(), owned.keep = memory;
  return owned;
}

}  // namespace peft::ops
