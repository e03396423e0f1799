// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include "peft/core/parallel.hpp"
#include "peft/ops/lengths.hpp"
#include "peft/ops/quantized.hpp"

namespace peft::ops {

template <Scalar T>
void squared_lengths(std::span<double> squares, const WeightView& W, bool by_columns) {
  if (W.transposed) {  // a stored row is a column: GPT-2's Conv1D
    WeightView stored(W.data, W.dtype, W.cols, W.rows);
    stored.stride = W.stride;
    return squared_lengths<T>(squares, stored, !by_columns);
  }
  const auto row_of = [&](std::int64_t o, Tensor<T>& buffer) -> const T* {
    if (W.dtype == dtype_of<T> && reinterpret_cast<std::uintptr_t>(W.data) % alignof(T) == 0) return reinterpret_cast<const T*>(W.row(o));
    if (!buffer) buffer = Tensor<T>({W.cols});
    widen<T>(buffer.data(), W.row(o), W.dtype, 0, W.cols);
    return buffer.data();
  };
  if (by_columns) {
    Tensor<T> buffer;
    for (std::int64_t o = 0; o < W.rows; o++) {
      const T* row = row_of(o, buffer);
      for (std::int64_t i = 0; i < W.cols; i++) squares[std::size_t(i)] += double(row[i]) * double(row[i]);
    }
    return;
  }
  parallel_ranges(W.rows, 64, [&](std::int64_t begin, std::int64_t end) {
    Tensor<T> buffer;
    for (std::int64_t o = begin; o < end; o++) {
      const T* row = row_of(o, buffer);
      double sums[4] = {};
      std::int64_t i = 0;
      for (; i + 4 <= W.cols; i += 4)
        for (std::int64_t k = 0; k < 4; k++) sums[k] += double(row[i + k]) * double(row[i + k]);
      for (; i < W.cols; i++) sums[0] += double(row[i]) * double(row[i]);
      squares[std::size_t(o)] += sums[0] + sums[1] + sums[2] + sums[3];
    }
  });
}

template <Scalar T>
void lengths_of_sum(std::span<T> n, std::span<const double> squares, View<const T> B, View<const T> aw, View<const T> baa, double s) {
  for (std::int64_t o = 0; o < B.rows; o++) {
    double square = squares[std::size_t(o)];
    for (std::int64_t k = 0; k < B.cols; k++) square += double(B(o, k)) * (2 * s * double(aw(k, o)) + s * s * double(baa(o, k)));
    n[std::size_t(o)] = T(std::sqrt(std::max(square, 0.0)));
  }
}

}  // namespace peft::ops
