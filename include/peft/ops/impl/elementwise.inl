// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <cmath>

#include "peft/ops/elementwise.hpp"
#include "peft/ops/impl/rowwise.hpp"

#define PEFT_KERNELS "peft/ops/impl/dropout_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops {

template <Scalar T>
void copy(View<T> y, View<const T> x) {
  detail::check_same_shape("copy", y, x);
  detail::each_piece(x.rows, x.cols, x.contiguous() && y.contiguous(),
                     [&](std::int64_t i, std::int64_t first, std::int64_t n) { std::copy_n(x.row(i) + first, n, y.row(i) + first); });
}
template <Scalar T>
void add_into(View<T> y, View<const T> x) {
  add<T>(y, y, x);
}
template <Scalar T>
void add(View<T> y, View<const T> a, View<const T> b) {
  detail::check_same_shape("add", y, a), detail::check_same_shape("add", y, b);
  detail::each_piece(a.rows, a.cols, y.contiguous() && a.contiguous() && b.contiguous(), [&](std::int64_t i, std::int64_t first, std::int64_t n) {
    PEFT_DISPATCH(row_add<T>, y.row(i) + first, a.row(i) + first, b.row(i) + first, n);
  });
}
template <Scalar T>
void axpy(View<T> y, T alpha, View<const T> x) {
  detail::check_same_shape("axpy", y, x);
  detail::each_piece(x.rows, x.cols, y.contiguous() && x.contiguous(), [&](std::int64_t i, std::int64_t first, std::int64_t n) {
    PEFT_DISPATCH(row_scale_add<T>, y.row(i) + first, alpha, x.row(i) + first, T(1), n);
  });
}
template <Scalar T>
void scale(View<T> y, T alpha, View<const T> x) {
  detail::check_same_shape("scale", y, x);
  detail::each_piece(x.rows, x.cols, y.contiguous() && x.contiguous(), [&](std::int64_t i, std::int64_t first, std::int64_t n) {
    PEFT_DISPATCH(row_scale_add<T>, y.row(i) + first, alpha, x.row(i) + first, T(0), n);
  });
}
template <Scalar T>
void multiply(View<T> y, View<const T> a, View<const T> b) {
  detail::check_same_shape("multiply", y, a), detail::check_same_shape("multiply", y, b);
  detail::each_piece(a.rows, a.cols, y.contiguous() && a.contiguous() && b.contiguous(), [&](std::int64_t i, std::int64_t first, std::int64_t n) {
    PEFT_DISPATCH(row_multiply<T>, y.row(i) + first, a.row(i) + first, b.row(i) + first, n);
  });
}
template <Scalar T>
void into(GradSink<T> sink, View<const T> x) {
  if (!sink) return;
  if (sink.accumulate) return add_into<T>(sink.view, x);
  copy<T>(sink.view, x);
}

template <Scalar T>
void dropout(View<T> y, View<const T> x, const DropoutKey& key, std::span<const std::uint64_t> row_keys) {
  detail::check_same_shape("dropout", y, x);
  if (std::int64_t(row_keys.size()) != x.rows)
    throw ShapeError("dropout", std::to_string(row_keys.size()) + " row keys for " + std::to_string(x.rows) + " rows");
  const double limit = std::ceil(key.p * 0x1p32);  // as DropoutKey::factor: r · 2⁻³² ≥ p
  parallel_ranges(x.rows, detail::row_grain(x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) {
      if (limit >= 0x1p32)
        std::fill_n(y.row(i), y.cols, T(0));
      else
        PEFT_DISPATCH(row_dropout<T>, y.row(i), x.row(i), x.cols, key.key, row_keys[std::size_t(i)], std::uint32_t(limit), T(1 / (1 - key.p)));
    }
  });
}

template <Scalar T>
double sum_of_squares(View<const T> x) {
  const bool whole = x.contiguous();
  const std::int64_t rows = whole ? 1 : x.rows, cols = whole ? x.rows * x.cols : x.cols;
  const std::int64_t per_row = (cols + detail::piece - 1) / detail::piece;
  const Tensor<double> partial({rows * per_row});
  parallel_for(rows * per_row, [&](std::int64_t p) {
    const std::int64_t begin = p % per_row * detail::piece, end = std::min(begin + detail::piece, cols);
    partial[p] = PEFT_DISPATCH(row_squares<T>, x.row(p / per_row) + begin, end - begin);
  });
  double total = 0;
  for (std::int64_t p = 0; p < rows * per_row; p++) total += partial[p];
  return total;
}

template <Scalar T>
void log_softmax(View<T> x) {
  parallel_ranges(x.rows, detail::row_grain(x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) {
      const T most = PEFT_DISPATCH(row_max<T>, x.row(i), x.cols);
      const T sum = PEFT_DISPATCH(row_exp<T>, static_cast<T*>(nullptr), x.row(i), most, T(1), x.cols);
      PEFT_DISPATCH(row_shift<T>, x.row(i), most, x.cols);  // apart from the logarithm, which is small: nothing is rounded away
      PEFT_DISPATCH(row_shift<T>, x.row(i), std::log(sum), x.cols);
    }
  });
}

namespace detail {
template <class T>
bool finite(View<const T> x) {
  std::atomic<bool> yes{true};
  each_piece(x.rows, x.cols, x.contiguous(), [&](std::int64_t i, std::int64_t first, std::int64_t n) {
    if (!(PEFT_DISPATCH(row_zero_if_finite<T>, x.row(i) + first, n) == T(0))) yes.store(false, std::memory_order_relaxed);
  });
  return yes;
}
}  // namespace detail
PEFT_INLINE bool all_finite(View<const float> x) { return detail::finite(x); }
PEFT_INLINE bool all_finite(View<const double> x) { return detail::finite(x); }

}  // namespace peft::ops
