// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>

#include "peft/ops/elementwise.hpp"
#include "peft/ops/impl/rowwise.hpp"

namespace peft::ops {

template <Scalar T>
void copy(View<T> y, View<const T> x) {
  detail::each_row(x.rows, x.cols, [&](std::int64_t i) { std::copy_n(x.row(i), x.cols, y.row(i)); });
}
template <Scalar T>
void add_into(View<T> y, View<const T> x) {
  detail::each_row(x.rows, x.cols, [&](std::int64_t i) { PEFT_DISPATCH(row_add<T>, y.row(i), y.row(i), x.row(i), x.cols); });
}
template <Scalar T>
void add(View<T> y, View<const T> a, View<const T> b) {
  detail::each_row(a.rows, a.cols, [&](std::int64_t i) { PEFT_DISPATCH(row_add<T>, y.row(i), a.row(i), b.row(i), a.cols); });
}
template <Scalar T>
void axpy(View<T> y, T alpha, View<const T> x) {
  detail::each_row(x.rows, x.cols, [&](std::int64_t i) { PEFT_DISPATCH(row_scale_add<T>, y.row(i), alpha, x.row(i), T(1), x.cols); });
}
template <Scalar T>
void scale(View<T> y, T alpha, View<const T> x) {
  detail::each_row(x.rows, x.cols, [&](std::int64_t i) { PEFT_DISPATCH(row_scale_add<T>, y.row(i), alpha, x.row(i), T(0), x.cols); });
}
template <Scalar T>
void multiply(View<T> y, View<const T> a, View<const T> b) {
  detail::each_row(a.rows, a.cols, [&](std::int64_t i) { PEFT_DISPATCH(row_multiply<T>, y.row(i), a.row(i), b.row(i), a.cols); });
}
template <Scalar T>
void into(GradSink<T> sink, View<const T> x) {
  if (!sink) return;
  if (sink.accumulate)
    add_into<T>(sink.view, x);
  else
    copy<T>(sink.view, x);
}

template <Scalar T>
void dropout(View<T> y, View<const T> x, const DropoutKey& key, std::span<const std::uint64_t> row_keys) {
  if (std::int64_t(row_keys.size()) != x.rows)
    throw ShapeError("dropout", std::to_string(row_keys.size()) + " row keys for " + std::to_string(x.rows) + " rows");
  const T kept = T(1 / (1 - key.p));
  const auto limit = std::uint64_t(key.p * 0x1p32);
  detail::each_row(x.rows, x.cols * 8, [&](std::int64_t i) {
    for (std::int64_t c = 0; c < x.cols; c += 4) {
      const auto bits = philox(key.key, row_keys[std::size_t(i)], std::uint64_t(c / 4));
      for (std::int64_t k = 0; k < 4 && c + k < x.cols; k++) y(i, c + k) = bits[std::size_t(k)] >= limit ? x(i, c + k) * kept : T(0);
    }
  });
}

template <Scalar T>
double sum_of_squares(View<const T> x) {
  constexpr std::int64_t piece = 1 << 14;
  const std::int64_t per_row = (x.cols + piece - 1) / piece, pieces = x.rows * per_row;
  Tensor<double> partial({pieces});
  parallel_for(pieces, [&](std::int64_t p) {
    const std::int64_t begin = p % per_row * piece, end = std::min(begin + piece, x.cols);
    const T* row = x.row(p / per_row);
    double total = 0;
    for (std::int64_t i = begin; i < end; i++) total += double(row[i]) * double(row[i]);
    partial[p] = total;
  });
  double total = 0;
  for (std::int64_t p = 0; p < pieces; p++) total += partial[p];
  return total;
}

template <Scalar T>
void log_softmax(View<T> x) {
  Tensor<T> scratch({x.cols});
  for (std::int64_t i = 0; i < x.rows; i++) {
    const T most = PEFT_DISPATCH(row_max<T>, x.row(i), x.cols);
    std::copy_n(x.row(i), x.cols, scratch.data());
    const T shift = most + std::log(PEFT_DISPATCH(row_exp<T>, scratch.data(), most, x.cols));
    for (std::int64_t c = 0; c < x.cols; c++) x(i, c) -= shift;
  }
}

namespace detail {
template <class T>
bool finite(View<const T> x) {
  for (std::int64_t i = 0; i < x.rows; i++)
    for (std::int64_t c = 0; c < x.cols; c++)
      if (!std::isfinite(x(i, c))) return false;
  return true;
}
}  // namespace detail
PEFT_INLINE bool all_finite(View<const float> x) { return detail::finite(x); }
PEFT_INLINE bool all_finite(View<const double> x) { return detail::finite(x); }

}  // namespace peft::ops
