// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <limits>

#include "peft/ops/gemm.hpp"
#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/linear_cross_entropy.hpp"
#include "peft/ops/quantized.hpp"

namespace peft::ops {

namespace detail {

// A tile of logits: 2 MiB of float.
inline constexpr std::int64_t label_rows = 512, label_classes = 1024;

/// Rows begin … end of w, as a weight of their own. Permuted rows are cut between heads.
inline WeightView some_rows(const WeightView& w, std::int64_t begin, std::int64_t end) {
  WeightView part = w;
  part.data = static_cast<const std::byte*>(w.data) + bytes_of(w.dtype, w.transposed ? begin : begin * w.stride);
  part.rows = end - begin;
  return part;
}
/// One row, wherever it is stored.
inline WeightView one_row(const WeightView& w, std::int64_t r) {
  WeightView part = some_rows(w, w.stored_row(r), w.stored_row(r) + 1);
  part.rope_head_dim = 0;
  return part;
}

/// The vocabulary in tiles, each as wide as whole heads where rows are permuted.
struct Vocabulary {
  const WeightView& w;
  std::int64_t width;
  explicit Vocabulary(const WeightView& weight) : w(weight), width(label_classes) {
    if (const std::int64_t d = w.rope_head_dim; d > 0) width = std::max<std::int64_t>(1, width / d) * d;
    width = std::min(width, w.rows);
  }
  std::int64_t end(std::int64_t begin) const { return std::min(begin + width, w.rows); }
};

template <class T>
void check_head(std::int64_t rows, View<const T> x, const WeightView& w, std::span<const std::int32_t> labels) {
  if (rows != x.rows || x.cols != w.cols || std::int64_t(labels.size()) != x.rows)
    throw ShapeError("linear_cross_entropy", "x " + to_string(Shape{x.rows, x.cols}) + ", a weight " + to_string(Shape{w.rows, w.cols}) + ", " +
                                                 std::to_string(labels.size()) + " labels");
  for (const std::int32_t label : labels)
    if (label < 0 || label >= w.rows)
      throw ShapeError("linear_cross_entropy", "label " + std::to_string(label) + "; allowed are 0 … " + std::to_string(w.rows - 1));
}

}  // namespace detail

template <Scalar T>
void linear_cross_entropy_forward(T* loss, T* lse, View<T> dx, View<const T> x, const WeightView& w, const T* bias, std::span<const std::int32_t> labels) {
  detail::check_head<T>(x.rows, x, w, labels);
  if (dx) detail::check_same_shape("linear_cross_entropy", dx, x);
  if (x.rows == 0) return;
  const UseKernel tiles(Kernel::panel);
  const detail::Vocabulary classes(w);
  const std::int64_t most_rows = std::min(detail::label_rows, x.rows);
  const Tensor<T> memory({most_rows, classes.width}), largest({most_rows}), total({most_rows});
  for (std::int64_t first = 0; first < x.rows; first += detail::label_rows) {
    const std::int64_t n = std::min(detail::label_rows, x.rows - first);
    const View<const T> rows = x.row_range(first, first + n);
    const View<T> sum = dx ? dx.row_range(first, first + n) : View<T>();  // Σ e^(l − largest) W, so far
    for (std::int64_t begin = 0; begin < w.rows; begin += classes.width) {
      const std::int64_t end = classes.end(begin), cols = end - begin;
      const WeightView part = detail::some_rows(w, begin, end);
      const View<T> logits = memory.view().row_range(0, n).columns(0, cols);
      linear_forward<T>(logits, rows, part, bias ? bias + begin : nullptr);
      // The running maximum grows: what has been summed under the old one shrinks with it.
      detail::each_row(n, cols, [&](std::int64_t i) {
        T* const row = logits.row(i);
        const std::int64_t label = labels[std::size_t(first + i)];
        if (label >= begin && label < end) loss[first + i] = row[label - begin];
        const T here = PEFT_DISPATCH(row_max<T>, row, cols), grown = begin == 0 ? here : std::max(largest[i], here);
        const T shrink = begin == 0 ? T(0) : std::exp(largest[i] - grown);
        const T more = PEFT_DISPATCH(row_exp<T>, sum ? row : nullptr, static_cast<const T*>(row), grown, T(1), cols);
        total[i] = begin == 0 ? more : total[i] * shrink + more;
        if (sum && begin > 0 && shrink != T(1)) PEFT_DISPATCH(row_scale_add<T>, sum.row(i), shrink, static_cast<const T*>(sum.row(i)), T(0), sum.cols);
        largest[i] = grown;
      });
      if (sum) linear_backward_input<T>({sum, begin > 0}, logits, part);
    }
    detail::each_row(n, x.cols, [&](std::int64_t i) {
      const T log_total = std::log(total[i]);
      lse[first + i] = largest[i] + log_total;
      loss[first + i] = (largest[i] - loss[first + i]) + log_total;
    });
    if (!sum) continue;
    // softmax(x Wᵀ) W − W[label];  the tile's memory holds the labels' rows, as many at a time as fit.
    const std::int64_t at_once = std::max<std::int64_t>(1, n * classes.width / x.cols);
    const Tensor<T> wide = at_once * x.cols > n * classes.width ? Tensor<T>({x.cols}) : Tensor<T>();
    for (std::int64_t begin = 0; begin < n; begin += at_once) {
      const std::int64_t end = std::min(n, begin + at_once);
      const View<T> label_rows(wide ? wide.data() : memory.data(), end - begin, x.cols);
      detail::each_row(end - begin, x.cols, [&](std::int64_t i) {
        const std::int64_t row = begin + i;
        widen<T>(label_rows.row_range(i, i + 1), detail::one_row(w, labels[std::size_t(first + row)]));
        PEFT_DISPATCH(row_scale_add<T>, sum.row(row), T(-1), static_cast<const T*>(label_rows.row(i)), T(1) / total[row], x.cols);
      });
    }
  }
}

template <Scalar T>
void linear_cross_entropy_backward_weight(GradSink<T> dw, GradSink<T> db, T factor, View<const T> x, const WeightView& w, const T* bias,
                                          std::span<const std::int32_t> labels, const T* lse) {
  if (!dw && !db) return;
  detail::check_head<T>(x.rows, x, w, labels);
  const UseKernel tiles(Kernel::panel);
  const detail::Vocabulary classes(w);
  const Tensor<T> memory({std::min(detail::label_rows, x.rows), classes.width});
  for (std::int64_t begin = 0; begin < w.rows; begin += classes.width) {
    const std::int64_t end = classes.end(begin), cols = end - begin;
    const WeightView part = detail::some_rows(w, begin, end);
    std::int64_t first = 0;
    do {  // once at least: sinks that are first are written even if there is no row
      const std::int64_t n = std::min(detail::label_rows, x.rows - first);
      const View<const T> rows = x.row_range(first, first + n);
      const View<T> dlogits = memory.view().row_range(0, n).columns(0, cols);
      linear_forward<T>(dlogits, rows, part, bias ? bias + begin : nullptr);
      detail::each_row(n, cols, [&](std::int64_t i) {  // scale · (softmax − onehot)
        T* const row = dlogits.row(i);
        PEFT_DISPATCH(row_exp<T>, row, static_cast<const T*>(row), lse[first + i], factor, cols);
        const std::int64_t label = labels[std::size_t(first + i)];
        if (label >= begin && label < end) row[label - begin] -= factor;
      });
      const bool add = first > 0;
      const GradSink<T> dw_part = dw ? GradSink<T>{dw.view.row_range(begin, end), dw.accumulate || add} : GradSink<T>{};
      const GradSink<T> db_part = db ? GradSink<T>{db.view.columns(begin, end), db.accumulate || add} : GradSink<T>{};
      linear_backward_weight<T>(dw_part, db_part, dlogits, rows);
      first += n;
    } while (first < x.rows);
  }
}

}  // namespace peft::ops
