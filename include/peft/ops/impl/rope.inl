// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>

#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/rope.hpp"

namespace peft::ops {

template <Scalar T>
void rope(View<T> x, std::span<const std::int32_t> positions, View<const T> cos, View<const T> sin, std::int64_t head_dim, bool interleaved, bool inverse) {
  const std::int64_t half = cos.cols, heads = x.cols / head_dim;
  if (std::int64_t(positions.size()) != x.rows || x.cols % head_dim || 2 * half > head_dim)
    throw ShapeError("rope", "x " + to_string(Shape{x.rows, x.cols}) + " with " + std::to_string(positions.size()) + " positions, heads of " +
                                 std::to_string(head_dim) + ", " + std::to_string(half) + " frequencies");
  const T sign = inverse ? T(-1) : T(1);
  detail::each_row(x.rows, x.cols, [&](std::int64_t i) {
    const std::int64_t p = positions[std::size_t(i)];
    if (p < 0 || p >= cos.rows) throw ShapeError("rope", "position " + std::to_string(p) + "; the table has 0 … " + std::to_string(cos.rows - 1));
    for (std::int64_t h = 0; h < heads; h++) {
      T* head = x.row(i) + h * head_dim;
      if (!interleaved) {
        PEFT_DISPATCH(rotate_halves<T>, head, cos.row(p), sin.row(p), half, sign);
        continue;
      }
      for (std::int64_t k = 0; k < half; k++) {
        const T a = head[2 * k], b = head[2 * k + 1], c = cos(p, k), s = sin(p, k) * sign;
        head[2 * k] = a * c - b * s, head[2 * k + 1] = b * c + a * s;
      }
    }
  });
}

template <Scalar T>
void rope_table(View<T> cos, View<T> sin, std::span<const double> frequencies, T scale) {
  detail::each_row(cos.rows, cos.cols * 16, [&](std::int64_t p) {
    for (std::int64_t k = 0; k < cos.cols; k++) {
      const T angle = T(p) * T(frequencies[std::size_t(k)]);
      cos(p, k) = std::cos(angle) * scale, sin(p, k) = std::sin(angle) * scale;
    }
  });
}

}  // namespace peft::ops
