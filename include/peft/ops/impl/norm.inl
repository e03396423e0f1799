// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <limits>

#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/norm.hpp"

namespace peft::ops::detail {

/// Both norms: RMSNorm is the one that is not centred.
template <class T>
struct NormRows {
  bool centred = false;
  std::int64_t n = 0;
  const T *x = nullptr, *dy = nullptr;
  T* y = nullptr;  // backward: dx, null if nobody wants it
  bool accumulate = false;
  const T *w = nullptr, *b = nullptr;
  T offset = 0, eps = 0;
  T* statistics = nullptr;
  std::int64_t x_stride = 0, dy_stride = 0, y_stride = 0, statistics_stride = 0;
};

}  // namespace peft::ops::detail

#define PEFT_KERNELS "peft/ops/impl/norm_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops {

namespace detail {

template <class T>
NormRows<T> norm_rows(bool centred, View<const T> x, View<T> y, const T* w, const T* b, T offset, T eps, T* statistics, std::int64_t statistics_stride) {
  NormRows<T> r;
  r.centred = centred, r.n = x.cols, r.x = x.data, r.x_stride = x.stride, r.y = y.data, r.y_stride = y.stride;
  r.w = w, r.b = b, r.offset = offset, r.eps = eps, r.statistics = statistics, r.statistics_stride = statistics_stride;
  return r;
}

// What is summed over rows is summed in pieces of a size that the shape alone decides, and the pieces in their order: the same bits for
// any number of threads.
template <class T>
void norm_rows_backward(NormRows<T> r, GradSink<T> dx, GradSink<T> dw, GradSink<T> db, View<const T> dy) {
  r.dy = dy.data, r.dy_stride = dy.stride, r.y = dx.view.data, r.y_stride = dx.view.stride, r.accumulate = dx.accumulate;
  const std::int64_t rows = dy.rows, n = r.n;
  if (!dw && !db) {
    if (dx)
      parallel_ranges(rows, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
        PEFT_DISPATCH(norm_backward<T>, r, static_cast<T*>(nullptr), static_cast<T*>(nullptr), begin, end);
      });
    return;
  }
  const std::int64_t grain = std::max<std::int64_t>(32, row_grain(n)), pieces = (rows + grain - 1) / grain;
  const Tensor<T> partial = Tensor<T>::zeros({2, pieces, n});
  T *const dw_parts = partial.data(), *const db_parts = partial.data() + pieces * n;
  parallel_ranges(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t at = begin / grain * n;
    PEFT_DISPATCH(norm_backward<T>, r, dw ? dw_parts + at : nullptr, db ? db_parts + at : nullptr, begin, end);
  });
  const auto add_up = [&](const GradSink<T>& sink, const T* parts) {
    if (!sink) return;
    T* to = sink.view.data;
    for (std::int64_t i = 0; i < n; i++) {
      T total = 0;
      for (std::int64_t p = 0; p < pieces; p++) total += parts[p * n + i];
      to[i] = sink.accumulate ? to[i] + total : total;
    }
  };
  add_up(dw, dw_parts), add_up(db, db_parts);
}

}  // namespace detail

template <Scalar T>
void rms_norm_forward(View<T> y, T* inv_rms, View<const T> x, const T* w, T eps, T offset) {
  detail::check_same_shape("rms_norm", y, x);
  const detail::NormRows<T> r = detail::norm_rows<T>(false, x, y, w, nullptr, offset, eps, inv_rms, 1);
  parallel_ranges(x.rows, detail::row_grain(x.cols), [&](std::int64_t begin, std::int64_t end) { PEFT_DISPATCH(norm_forward<T>, r, begin, end); });
}
template <Scalar T>
void rms_norm_backward(GradSink<T> dx, GradSink<T> dw, View<const T> dy, View<const T> x, const T* w, const T* inv_rms, T offset) {
  detail::check_same_shape("rms_norm backward", dy, x);
  detail::norm_rows_backward<T>(detail::norm_rows<T>(false, x, {}, w, nullptr, offset, T(0), const_cast<T*>(inv_rms), 1), dx, dw, {}, dy);
}

template <Scalar T>
void layer_norm_forward(View<T> y, View<T> statistics, View<const T> x, const T* w, const T* b, T eps) {
  detail::check_same_shape("layer_norm", y, x);
  const detail::NormRows<T> r = detail::norm_rows<T>(true, x, y, w, b, T(0), eps, statistics.data, statistics.stride);
  parallel_ranges(x.rows, detail::row_grain(x.cols), [&](std::int64_t begin, std::int64_t end) { PEFT_DISPATCH(norm_forward<T>, r, begin, end); });
}
template <Scalar T>
void layer_norm_backward(GradSink<T> dx, GradSink<T> dw, GradSink<T> db, View<const T> dy, View<const T> x, const T* w, View<const T> statistics) {
  detail::check_same_shape("layer_norm backward", dy, x);
  detail::norm_rows_backward<T>(detail::norm_rows<T>(true, x, {}, w, nullptr, T(0), T(0), const_cast<T*>(statistics.data), statistics.stride), dx, dw, db, dy);
}

}  // namespace peft::ops
