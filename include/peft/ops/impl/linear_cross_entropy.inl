// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>

#include "peft/ops/elementwise.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/linear_cross_entropy.hpp"
#include "peft/ops/quantized.hpp"

namespace peft::ops {

namespace detail {

// Rows of x and of the vocabulary that one tile of logits covers: 2 MiB of float.
inline constexpr std::int64_t vocabulary_tile = 1024, row_block = 512;

// Rows begin … end of w, as a weight of their own.
inline WeightView vocabulary_rows(const WeightView& w, std::int64_t begin, std::int64_t end) {
  WeightView part = w;
  part.data = w.row(begin), part.rows = end - begin;
  return part;
}

// logits (n, end − begin) = x Wᵀ + b
template <class T>
void logits_tile(View<T> logits, View<const T> x, const WeightView& w, const T* bias, std::int64_t begin, std::int64_t end) {
  linear_forward<T>(logits, x, vocabulary_rows(w, begin, end), bias ? bias + begin : nullptr);
}

inline void check_head(const WeightView& w) {
  if (w.transposed || w.rope_head_dim) throw ShapeError("linear_cross_entropy", "a head whose rows are stored transposed or permuted");
}

}  // namespace detail

template <Scalar T>
void linear_cross_entropy_forward(T* loss, T* lse, View<T> dx, View<const T> x, const WeightView& w, const T* bias, std::span<const std::int32_t> labels) {
  detail::check_head(w);
  const UseKernel tiles(Kernel::panel);
  for (std::int64_t first = 0; first < x.rows; first += detail::row_block) {
    const std::int64_t n = std::min(detail::row_block, x.rows - first);
    const View<const T> rows = x.row_range(first, first + n);
    Tensor<T> logits_memory({n, std::min(detail::vocabulary_tile, w.rows)}), most({n}, -std::numeric_limits<T>::infinity()), total({n}, T(0));
    const View<T> sum_dx = dx ? dx.row_range(first, first + n) : View<T>();
    for (std::int64_t begin = 0; begin < w.rows; begin += detail::vocabulary_tile) {
      const std::int64_t end = std::min(begin + detail::vocabulary_tile, w.rows), cols = end - begin;
      const View<T> logits = logits_memory.view().columns(0, cols);
      detail::logits_tile<T>(logits, rows, w, bias, begin, end);
      // The running maximum grows: what has been summed under the old one shrinks with it.
      detail::each_row(n, cols, [&](std::int64_t i) {
        T* row = logits.row(i);
        const std::int32_t label = labels[std::size_t(first + i)];
        if (label >= begin && label < end) loss[first + i] = -row[label - begin];
        const T grown = std::max(most[i], PEFT_DISPATCH(row_max<T>, row, cols));
        const T shrink = begin == 0 ? T(0) : std::exp(most[i] - grown);
        total[i] = total[i] * shrink + PEFT_DISPATCH(row_exp<T>, row, grown, cols);
        if (sum_dx && begin > 0 && shrink != T(1))
          PEFT_DISPATCH(row_scale_add<T>, sum_dx.row(i), shrink, static_cast<const T*>(sum_dx.row(i)), T(0), sum_dx.cols);
        most[i] = grown;
      });
      if (sum_dx) linear_backward_input<T>({sum_dx, begin > 0}, logits, detail::vocabulary_rows(w, begin, end));
    }
    parallel_ranges(n, 16, [&](std::int64_t a, std::int64_t b) {
      Tensor<T> label_row = sum_dx ? Tensor<T>({w.cols}) : Tensor<T>();
      for (std::int64_t i = a; i < b; i++) {
        lse[first + i] = most[i] + std::log(total[i]);
        loss[first + i] += lse[first + i];
        if (!sum_dx) continue;
        // softmax(x Wᵀ) W − W[label]
        widen<T>(label_row.data(), w.row(labels[std::size_t(first + i)]), w.dtype, 0, w.cols);
        const T inverse = T(1) / total[i];
        for (std::int64_t c = 0; c < w.cols; c++) sum_dx(i, c) = sum_dx(i, c) * inverse - label_row[c];
      }
    });
  }
}

template <Scalar T>
void linear_cross_entropy_backward_weight(GradSink<T> dw, GradSink<T> db, T factor, View<const T> x, const WeightView& w, const T* bias,
                                          std::span<const std::int32_t> labels, const T* lse) {
  if (!dw && !db) return;
  detail::check_head(w);
  const UseKernel tiles(Kernel::panel);
  for (std::int64_t first = 0; first < x.rows; first += detail::row_block) {
    const std::int64_t n = std::min(detail::row_block, x.rows - first);
    const View<const T> rows = x.row_range(first, first + n);
    Tensor<T> logits_memory({n, std::min(detail::vocabulary_tile, w.rows)});
    for (std::int64_t begin = 0; begin < w.rows; begin += detail::vocabulary_tile) {
      const std::int64_t end = std::min(begin + detail::vocabulary_tile, w.rows), cols = end - begin;
      const View<T> logits = logits_memory.view().columns(0, cols);
      detail::logits_tile<T>(logits, rows, w, bias, begin, end);
      detail::each_row(n, cols, [&](std::int64_t i) {
        T* row = logits.row(i);
        PEFT_DISPATCH(row_exp<T>, row, lse[first + i], cols);
        PEFT_DISPATCH(row_scale_add<T>, row, factor, static_cast<const T*>(row), T(0), cols);
        const std::int32_t label = labels[std::size_t(first + i)];
        if (label >= begin && label < end) row[label - begin] -= factor;
      });
      const bool add = first > 0;
      const GradSink<T> dw_part = dw ? GradSink<T>{dw.view.row_range(begin, end), dw.accumulate || add} : GradSink<T>{};
      const GradSink<T> db_part = db ? GradSink<T>{db.view.columns(begin, end), db.accumulate || add} : GradSink<T>{};
      linear_backward_weight<T>(dw_part, db_part, logits, rows);
    }
  }
}

}  // namespace peft::ops
