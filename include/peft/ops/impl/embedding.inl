// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>

#include "peft/core/parallel.hpp"
#include "peft/ops/embedding.hpp"
#include "peft/ops/quantized.hpp"

namespace peft::ops {

template <Scalar T>
void embedding_forward(View<T> y, std::span<const std::int32_t> ids, const WeightView& w, T scale) {
  for (std::size_t n = 0; n < ids.size(); n++)
    if (ids[n] < 0 || ids[n] >= w.rows)
      throw ShapeError("embedding", "id " + std::to_string(ids[n]) + " in row " + std::to_string(n) + "; allowed are 0 … " + std::to_string(w.rows - 1));
  parallel_ranges(std::int64_t(ids.size()), 32, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; n++) {
      widen<T>(y.row(n), w.row(ids[std::size_t(n)]), w.dtype, 0, w.cols);
      if (scale != T(1))
        for (std::int64_t c = 0; c < w.cols; c++) y(n, c) *= scale;
    }
  });
}

template <Scalar T>
void embedding_backward(GradSink<T> dw, View<const T> dy, std::span<const std::int32_t> ids, T scale, std::int32_t padding) {
  if (!dw) return;
  // Columns are split, not rows: each chunk owns its columns of every row, and adds in the order of n.
  constexpr std::int64_t width = 64;
  parallel_ranges(dy.cols, width, [&](std::int64_t begin, std::int64_t end) {
    if (!dw.accumulate)
      for (std::int64_t r = 0; r < dw.view.rows; r++) std::fill(dw.view.row(r) + begin, dw.view.row(r) + end, T(0));
    for (std::size_t n = 0; n < ids.size(); n++) {
      if (ids[n] == padding) continue;
      T* to = dw.view.row(ids[n]);
      const T* from = dy.row(std::int64_t(n));
      for (std::int64_t c = begin; c < end; c++) to[c] += scale * from[c];
    }
  });
}

}  // namespace peft::ops
