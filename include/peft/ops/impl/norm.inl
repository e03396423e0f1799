// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>

#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/norm.hpp"

namespace peft::ops {

namespace detail {
// Sums over rows in pieces of fixed size, then the pieces in order: the same bits for any number of threads.
template <class T, class F>
void sum_over_rows(GradSink<T> sink, std::int64_t rows, const F& add_row) {
  const std::int64_t n = sink.view.rows * sink.view.cols;
  constexpr std::int64_t piece = 64;
  const std::int64_t pieces = (rows + piece - 1) / piece;
  Tensor<T> partial = Tensor<T>::zeros({pieces, n});
  parallel_for(pieces, [&](std::int64_t p) {
    for (std::int64_t i = p * piece; i < rows && i < (p + 1) * piece; i++) add_row(partial.data() + p * n, i);
  });
  T* to = sink.view.data;
  if (!sink.accumulate) std::fill_n(to, n, T(0));
  for (std::int64_t p = 0; p < pieces; p++) PEFT_DISPATCH(row_add<T>, to, to, partial.data() + p * n, n);
}
}  // namespace detail

template <Scalar T>
void rms_norm_forward(View<T> y, T* inv_rms, View<const T> x, const T* w, T eps, T offset) {
  detail::each_row(x.rows, x.cols, [&](std::int64_t i) {
    const T mean_square = PEFT_DISPATCH(row_dot<T>, x.row(i), x.row(i), x.cols) / T(x.cols);
    inv_rms[i] = T(1) / std::sqrt(mean_square + eps);
    PEFT_DISPATCH(row_affine<T>, y.row(i), x.row(i), T(0), inv_rms[i], w, offset, static_cast<const T*>(nullptr), x.cols);
  });
}
template <Scalar T>
void rms_norm_backward(GradSink<T> dx, GradSink<T> dw, View<const T> dy, View<const T> x, const T* w, const T* inv_rms, T offset) {
  if (dx)
    detail::each_row(x.rows, x.cols, [&](std::int64_t i) {
      PEFT_DISPATCH(row_norm_backward<T>, dx.view.row(i), dx.accumulate, dy.row(i), x.row(i), w, offset, T(0), inv_rms[i], false, x.cols);
    });
  if (dw)
    detail::sum_over_rows(dw, x.rows, [&](T* to, std::int64_t i) { PEFT_DISPATCH(row_norm_weight<T>, to, dy.row(i), x.row(i), T(0), inv_rms[i], x.cols); });
}

template <Scalar T>
void layer_norm_forward(View<T> y, View<T> statistics, View<const T> x, const T* w, const T* b, T eps) {
  detail::each_row(x.rows, x.cols, [&](std::int64_t i) {
    const T mean = PEFT_DISPATCH(row_sum<T>, x.row(i), x.cols) / T(x.cols);
    const T inv_std = T(1) / std::sqrt(PEFT_DISPATCH(row_variance<T>, x.row(i), mean, x.cols) / T(x.cols) + eps);
    statistics(i, 0) = mean, statistics(i, 1) = inv_std;
    PEFT_DISPATCH(row_affine<T>, y.row(i), x.row(i), -mean, inv_std, w, T(0), b, x.cols);
  });
}
template <Scalar T>
void layer_norm_backward(GradSink<T> dx, GradSink<T> dw, GradSink<T> db, View<const T> dy, View<const T> x, const T* w, View<const T> statistics) {
  if (dx)
    detail::each_row(x.rows, x.cols, [&](std::int64_t i) {
      PEFT_DISPATCH(row_norm_backward<T>, dx.view.row(i), dx.accumulate, dy.row(i), x.row(i), w, T(0), statistics(i, 0), statistics(i, 1), true, x.cols);
    });
  if (dw)
    detail::sum_over_rows(
        dw, x.rows, [&](T* to, std::int64_t i) { PEFT_DISPATCH(row_norm_weight<T>, to, dy.row(i), x.row(i), statistics(i, 0), statistics(i, 1), x.cols); });
  if (db) detail::sum_over_rows(db, x.rows, [&](T* to, std::int64_t i) { PEFT_DISPATCH(row_add<T>, to, to, dy.row(i), x.cols); });
}

}  // namespace peft::ops
