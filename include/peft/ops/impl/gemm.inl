// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <string>
#include <utility>

#include "peft/core/error.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/impl/activation.inl"
#include "peft/ops/impl/gemm_bf16_kernels.hpp"
#include "peft/ops/impl/gemm_dots.hpp"
#include "peft/ops/impl/gemm_nest.hpp"
#include "peft/ops/isa.hpp"

namespace peft::ops {

namespace detail {

inline Kernel& thread_kernel() {
  static thread_local Kernel value = Kernel::panel;
  return value;
}

inline DType& thread_compute_dtype() {
  static thread_local DType value = DType::f32;
  return value;
}

/// What a product with weights is computed by.
template <class T>
const GemmKernels<T>& kernels_for([[maybe_unused]] std::int64_t rope_head_dim) {
#if defined(__x86_64__)
  if constexpr (sizeof(T) == 4)
    if (thread_compute_dtype() == DType::bf16 && avx512::has_bf16() && rope_head_dim % 4 == 0) return avx512::gemm_bf16_kernels();
#endif
  return PEFT_DISPATCH(gemm_kernels<T>, );
}

template <class T, Activation f>
void activate_in_place(T* row, std::int64_t n) {
  PEFT_DISPATCH(activate, std::integral_constant<Activation, f>(), row, static_cast<const T*>(row), n);
}

template <class T>
void add_epilogue(Product<T>& p, const char* operation, const Epilogue<T>& then) {
  if (then.xa.data) {
    p.xa = Factor(then.xa, true), p.br = Factor(then.b, !then.transposed), p.s = then.s;
    if (p.xa.lines != p.a.lines || p.br.lines != p.b.lines || p.xa.depth != p.br.depth)
      throw ShapeError(operation, "a product " + to_string(Shape{p.a.lines, p.b.lines}) + " and a term of low rank " +
                                      to_string(Shape{then.xa.rows, then.xa.cols}) + " times " + to_string(Shape{then.b.rows, then.b.cols}));
  }
  if (then.f) with_activation(*then.f, [&](auto which) { p.finish = activate_in_place<T, decltype(which)::value>; });
}

inline std::string text(std::int64_t rows, std::int64_t cols) { return to_string(Shape{rows, cols}); }

inline void check_weight(const char* operation, const WeightView& w) {
  if (!info(w.dtype).floating) throw Error(operation, "a weight of " + std::string(name(w.dtype)) + " does not hold real numbers");
  if (w.transposed && (w.rope_head_dim > 0 || is_quantized(w.dtype))) throw Error(operation, "a transposed weight has no blocks and no permuted rows");
}

}  // namespace detail

PEFT_INLINE Kernel kernel() { return detail::thread_kernel(); }
PEFT_INLINE UseKernel::UseKernel(Kernel k) : previous_(std::exchange(detail::thread_kernel(), k)) {}
PEFT_INLINE UseKernel::~UseKernel() { detail::thread_kernel() = previous_; }

PEFT_INLINE DType compute_dtype() { return detail::thread_compute_dtype(); }
PEFT_INLINE bool has_bf16_products() {
#if defined(__x86_64__)
  return avx512::has_bf16();
#else
  return false;
#endif
}
PEFT_INLINE UseComputeDtype::UseComputeDtype(DType dtype) : previous_(detail::thread_compute_dtype()) {
  if (dtype != DType::f32 && dtype != DType::bf16) throw ConfigError("compute_dtype", std::string(name(dtype)) + "; allowed are f32, bf16");
  detail::thread_compute_dtype() = dtype;
}
PEFT_INLINE UseComputeDtype::~UseComputeDtype() { detail::thread_compute_dtype() = previous_; }

template <Scalar T>
void linear_forward(View<T> y, View<const T> x, const WeightView& w, const T* bias, bool accumulate, const Epilogue<T>& then) {
  if (x.rows != y.rows || x.cols != w.cols || y.cols != w.rows)
    throw ShapeError("linear", "y " + detail::text(y.rows, y.cols) + " of x " + detail::text(x.rows, x.cols) + " and a weight " + detail::text(w.rows, w.cols));
  detail::check_weight("linear", w);
  const detail::GemmKernels<T>& f = detail::kernels_for<T>(w.rope_head_dim);
  // What decides must not be the number of rows.
  detail::Product<T> product{detail::Factor(x, true), detail::Factor(w, true), T(1), T(accumulate), y, bias};
  detail::add_epilogue(product, "linear", then);
  if (!product.b.along || (kernel() != Kernel::dot && w.rows > detail::few)) return detail::multiply<T>(f, product);
  detail::dot_products<T>(f, y, x, product.b, T(1), accumulate, bias);
  if (then.xa.data) gemm<T>(then.s, then.xa, false, then.b, !then.transposed, T(1), y);
  if (then.f) activation_forward<T>(y, y, *then.f);
}

template <Scalar T>
void linear_backward_input(GradSink<T> dx, View<const T> dy, const WeightView& w, const Epilogue<T>& then) {
  if (!dx) return;
  if (dx.view.rows != dy.rows || dx.view.cols != w.cols || dy.cols != w.rows)
    throw ShapeError("linear backward", "dx " + detail::text(dx.view.rows, dx.view.cols) + " of dy " + detail::text(dy.rows, dy.cols) + " and a weight " +
                                            detail::text(w.rows, w.cols));
  detail::check_weight("linear backward", w);
  detail::Product<T> product{detail::Factor(dy, true), detail::Factor(w, false), T(1), T(dx.accumulate), dx.view};
  detail::add_epilogue(product, "linear backward", then);
  detail::multiply<T>(detail::kernels_for<T>(w.rope_head_dim), product);
}

template <Scalar T>
void linear_backward_weight(GradSink<T> dw, GradSink<T> db, View<const T> dy, View<const T> x) {
  const detail::GemmKernels<T>& f = detail::kernels_for<T>(0);
  if (db) {
    if (db.view.cols != dy.cols)
      throw ShapeError("linear backward", "db has " + std::to_string(db.view.cols) + " values, dy " + std::to_string(dy.cols) + " columns");
    T* sums = db.view.data;
    parallel_ranges(dy.cols, 256, [&](std::int64_t begin, std::int64_t end) {
      if (!db.accumulate) std::fill(sums + begin, sums + end, T(0));
      f.sum_columns(sums + begin, dy.data + begin, dy.stride, dy.rows, end - begin);
    });
  }
  if (!dw) return;
  if (dy.rows != x.rows || dw.view.rows != dy.cols || dw.view.cols != x.cols)
    throw ShapeError("linear backward",
                     "dW " + detail::text(dw.view.rows, dw.view.cols) + " of dy " + detail::text(dy.rows, dy.cols) + " and x " + detail::text(x.rows, x.cols));
  detail::either_way<T>(f, {detail::Factor(dy, false), detail::Factor(x, false), T(1), T(dw.accumulate), dw.view});
}

template <Scalar T>
void gemm(T alpha, View<const T> a, bool transpose_a, View<const T> b, bool transpose_b, T beta, View<T> c) {
  const detail::Factor lines(a, !transpose_a), columns(b, transpose_b);
  if (lines.depth != columns.depth || c.rows != lines.lines || c.cols != columns.lines)
    throw ShapeError("gemm",
                     detail::text(c.rows, c.cols) + " of " + detail::text(lines.lines, lines.depth) + " and " + detail::text(columns.depth, columns.lines));
  const detail::GemmKernels<T>& f = PEFT_DISPATCH(gemm_kernels<T>, );
  if (!transpose_a && (columns.lines <= detail::few || (kernel() == Kernel::dot && columns.along))) {
    if (beta != T(0) && beta != T(1))
      for (std::int64_t i = 0; i < c.rows; i++)
        for (std::int64_t j = 0; j < c.cols; j++) c(i, j) *= beta;
    return detail::dot_products<T>(f, c, a, columns, alpha, beta != T(0), nullptr);
  }
  detail::either_way<T>(f, {lines, columns, alpha, beta, c});
}

}  // namespace peft::ops
