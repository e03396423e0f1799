// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/core/parallel.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/quantized.hpp"

namespace peft::ops {

namespace detail {
inline Kernel& thread_kernel() {
  static thread_local Kernel value = Kernel::panel;
  return value;
}
inline std::string product_text(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
  return to_string(Shape{a, b}) + " and " + to_string(Shape{c, d});
}
// y[0, n) += a · x[0, n)
template <class T>
void add_scaled(T* y, T a, const T* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i++) y[i] += a * x[i];
}
template <class T>
T dot(const T* a, const T* b, std::int64_t n) {
  T s[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; j++) s[j] += a[i + j] * b[i + j];
  for (; i < n; i++) s[0] += a[i] * b[i];
  return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}
}  // namespace detail

PEFT_INLINE Kernel kernel() { return detail::thread_kernel(); }
PEFT_INLINE UseKernel::UseKernel(Kernel k) : previous_(std::exchange(detail::thread_kernel(), k)) {}
PEFT_INLINE UseKernel::~UseKernel() { detail::thread_kernel() = previous_; }

template <Scalar T>
void linear_forward(View<T> y, View<const T> x, const WeightView& w, const T* bias, bool accumulate) {
  if (x.rows != y.rows || x.cols != w.cols || y.cols != w.rows)
    throw ShapeError("linear", "x is " + detail::product_text(x.rows, x.cols, w.rows, w.cols) + " the weight; y is " + to_string(Shape{y.rows, y.cols}));
  parallel_ranges(w.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> row(std::size_t(w.cols));
    for (std::int64_t o = begin; o < end; o++) {
      if (w.transposed)
        for (std::int64_t c = 0; c < w.cols; c++) widen(&row[std::size_t(c)], w.data, w.dtype, c * w.stride + o, 1);
      else
        widen(row.data(), w.row(o), w.dtype, 0, w.cols);
      for (std::int64_t n = 0; n < x.rows; n++) y(n, o) = (accumulate ? y(n, o) : T(0)) + detail::dot(x.row(n), row.data(), w.cols) + (bias ? bias[o] : T(0));
    }
  });
}

template <Scalar T>
void linear_backward_input(GradSink<T> dx, View<const T> dy, const WeightView& w) {
  if (!dx) return;
  if (dx.view.rows != dy.rows || dx.view.cols != w.cols || dy.cols != w.rows)
    throw ShapeError("linear backward",
                     "dy is " + detail::product_text(dy.rows, dy.cols, w.rows, w.cols) + " the weight; dx is " + to_string(Shape{dx.view.rows, dx.view.cols}));
  parallel_ranges(w.cols, 64, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> row(std::size_t(end - begin));
    if (!dx.accumulate)
      for (std::int64_t n = 0; n < dy.rows; n++) std::fill(dx.view.row(n) + begin, dx.view.row(n) + end, T(0));
    for (std::int64_t o = 0; o < w.rows; o++) {
      if (w.transposed)
        for (std::int64_t c = begin; c < end; c++) widen(&row[std::size_t(c - begin)], w.data, w.dtype, c * w.stride + o, 1);
      else
        widen(row.data(), w.row(o), w.dtype, begin, end - begin);
      for (std::int64_t n = 0; n < dy.rows; n++) detail::add_scaled(dx.view.row(n) + begin, dy(n, o), row.data(), end - begin);
    }
  });
}

template <Scalar T>
void linear_backward_weight(GradSink<T> dw, GradSink<T> db, View<const T> dy, View<const T> x) {
  if (dy.rows != x.rows || (dw && (dw.view.rows != dy.cols || dw.view.cols != x.cols)) || (db && db.view.cols != dy.cols))
    throw ShapeError("linear backward", "dy and x are " + detail::product_text(dy.rows, dy.cols, x.rows, x.cols));
  parallel_ranges(dy.cols, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; o++) {
      if (db) {
        T s = db.accumulate ? db.view.data[o] : T(0);
        for (std::int64_t n = 0; n < dy.rows; n++) s += dy(n, o);
        db.view.data[o] = s;
      }
      if (!dw) continue;
      if (!dw.accumulate) std::fill_n(dw.view.row(o), x.cols, T(0));
      for (std::int64_t n = 0; n < dy.rows; n++) detail::add_scaled(dw.view.row(o), dy(n, o), x.row(n), x.cols);
    }
  });
}

template <Scalar T>
void gemm(T alpha, View<const T> a, bool transpose_a, View<const T> b, bool transpose_b, T beta, View<T> c) {
  const std::int64_t m = transpose_a ? a.cols : a.rows, k = transpose_a ? a.rows : a.cols, n = transpose_b ? b.rows : b.cols;
  if ((transpose_b ? b.cols : b.rows) != k || c.rows != m || c.cols != n)
    throw ShapeError("gemm", detail::product_text(a.rows, a.cols, b.rows, b.cols) + " into " + to_string(Shape{c.rows, c.cols}));
  parallel_ranges(m, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) {
      for (std::int64_t j = 0; j < n; j++) c(i, j) = beta == T(0) ? T(0) : beta * c(i, j);
      for (std::int64_t l = 0; l < k; l++) {
        const T s = alpha * (transpose_a ? a(l, i) : a(i, l));
        if (!transpose_b)
          detail::add_scaled(c.row(i), s, b.row(l), n);
        else
          for (std::int64_t j = 0; j < n; j++) c(i, j) += s * b(j, l);
      }
    }
  });
}

}  // namespace peft::ops
