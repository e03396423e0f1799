// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>

#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/rope.hpp"

#define PEFT_KERNELS "peft/ops/impl/rope_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops {

template <Scalar T>
void rope(View<T> x, std::span<const std::int32_t> positions, View<const T> cos, View<const T> sin, std::int64_t head_dim, bool interleaved, bool inverse) {
  const std::int64_t half = cos.cols;
  if (std::int64_t(positions.size()) != x.rows || head_dim < 1 || x.cols % head_dim || 2 * half > head_dim)
    throw ShapeError("rope", "x " + to_string(Shape{x.rows, x.cols}) + " with " + std::to_string(positions.size()) + " positions, heads of " +
                                 std::to_string(head_dim) + ", " + std::to_string(half) + " frequencies");
  detail::check_same_shape("rope", cos, sin);
  for (const std::int32_t p : positions)
    if (p < 0 || p >= cos.rows) throw ShapeError("rope", "position " + std::to_string(p) + "; the table has 0 … " + std::to_string(cos.rows - 1));
  parallel_ranges(x.rows, detail::row_grain(x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) {
      const std::int64_t p = positions[std::size_t(i)];
      PEFT_DISPATCH(rotate_row<T>, x.row(i), x.cols / head_dim, head_dim, cos.row(p), sin.row(p), T(inverse ? -1 : 1), half, interleaved);
    }
  });
}

template <Scalar T>
void rope_table(View<T> cos, View<T> sin, std::span<const double> frequencies, T scale) {
  detail::check_same_shape("rope_table", cos, sin);
  if (std::int64_t(frequencies.size()) != cos.cols)
    throw ShapeError("rope_table", std::to_string(frequencies.size()) + " frequencies for " + std::to_string(cos.cols) + " columns");
  parallel_ranges(cos.rows, detail::row_grain(cos.cols * 16), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; p++)
      for (std::int64_t k = 0; k < cos.cols; k++) {
        const T angle = T(p) * T(frequencies[std::size_t(k)]);
        cos(p, k) = std::cos(angle) * scale, sin(p, k) = std::sin(angle) * scale;
      }
  });
}

}  // namespace peft::ops
