// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "peft/ops/embedding.hpp"
#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/quantized.hpp"

namespace peft::ops {

namespace detail {
inline void check_ids(std::span<const std::int32_t> ids, std::int64_t y_rows, std::int64_t rows, const std::int32_t* padding = nullptr) {
  if (std::int64_t(ids.size()) != y_rows) throw ShapeError("embedding", std::to_string(ids.size()) + " ids for " + std::to_string(y_rows) + " rows");
  for (std::size_t n = 0; n < ids.size(); n++)
    if ((ids[n] < 0 || ids[n] >= rows) && !(padding && ids[n] == *padding))
      throw ShapeError("embedding", "id " + std::to_string(ids[n]) + " in row " + std::to_string(n) + "; allowed are 0 … " + std::to_string(rows - 1));
}
}  // namespace detail

template <Scalar T>
void embedding_forward(View<T> y, std::span<const std::int32_t> ids, const WeightView& w, T scale) {
  detail::check_ids(ids, y.rows, w.rows);
  if (y.cols != w.cols || w.transposed)
    throw ShapeError("embedding",
                     "rows of " + std::to_string(y.cols) + " from a weight " + to_string(Shape{w.rows, w.cols}) + (w.transposed ? ", stored transposed" : ""));
  parallel_ranges(y.rows, detail::row_grain(y.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; n++) {
      widen<T>(y.row(n), w.row(ids[std::size_t(n)]), w.dtype, 0, w.cols);
      if (scale != T(1)) PEFT_DISPATCH(row_scale_add<T>, y.row(n), scale, static_cast<const T*>(y.row(n)), T(0), y.cols);
    }
  });
}

template <Scalar T>
void embedding_backward(GradSink<T> dw, View<const T> dy, std::span<const std::int32_t> ids, T scale, std::int32_t padding) {
  if (!dw) return;
  detail::check_ids(ids, dy.rows, dw.view.rows, &padding);
  if (dy.cols != dw.view.cols)
    throw ShapeError("embedding backward", "rows of " + std::to_string(dy.cols) + " into a weight " + to_string(Shape{dw.view.rows, dw.view.cols}));
  // Columns are split, not rows: each chunk owns its columns of every row, and adds in the order of n.
  parallel_ranges(dy.cols, 128, [&](std::int64_t begin, std::int64_t end) {
    if (!dw.accumulate)
      for (std::int64_t r = 0; r < dw.view.rows; r++) std::fill(dw.view.row(r) + begin, dw.view.row(r) + end, T(0));
    for (std::size_t n = 0; n < ids.size(); n++)
      if (ids[n] != padding) PEFT_DISPATCH(row_scale_add<T>, dw.view.row(ids[n]) + begin, scale, dy.row(std::int64_t(n)) + begin, T(1), end - begin);
  });
}

}  // namespace peft::ops
