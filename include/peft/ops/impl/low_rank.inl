// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "peft/ops/elementwise.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/low_rank.hpp"

namespace peft::ops {

namespace detail {
/// y (M, N) = xᵀ, or +=; one side is a rank, so all of it is small.
template <class T>
void transpose_small(View<T> y, View<const T> x, bool accumulate) {
  for (std::int64_t i = 0; i < y.rows; i++)
    for (std::int64_t j = 0; j < y.cols; j++) y(i, j) = accumulate ? y(i, j) + x(j, i) : x(j, i);
}
}  // namespace detail

template <Scalar T>
void low_rank_forward(View<T> y, View<T> xa, View<const T> x, View<const T> A, View<const T> B, T s) {
  gemm<T>(T(1), x, false, A, true, T(0), xa);
  gemm<T>(s, xa, false, B, true, T(1), y);
}

template <Scalar T>
void low_rank_gradients(View<T> g, GradSink<T> dA, GradSink<T> dB, View<const T> dy, View<const T> x, View<const T> xa, View<const T> B, T s) {
  // A product that is only a rank wide wastes most of a register tile: such ones are formed lying down.
  const bool narrow = B.cols < 48;
  const Tensor<T> lying = narrow ? Tensor<T>({B.cols, B.rows}) : Tensor<T>();
  if (dB && narrow) {
    gemm<T>(s, xa, true, dy, false, T(0), lying);
    detail::transpose_small<T>(dB.view, lying, dB.accumulate);
  } else if (dB) {
    gemm<T>(s, dy, true, xa, false, T(dB.accumulate), dB.view);
  }
  if (!g) return;
  if (narrow) {
    detail::transpose_small<T>(lying, B, false);
    gemm<T>(s, dy, false, lying, true, T(0), g);
  } else {
    gemm<T>(s, dy, false, B, false, T(0), g);
  }
  if (dA) gemm<T>(T(1), g, true, x, false, T(dA.accumulate), dA.view);
}

template <Scalar T>
void low_rank_backward(GradSink<T> dx, GradSink<T> dA, GradSink<T> dB, View<const T> dy, View<const T> x, View<const T> xa, View<const T> A, View<const T> B,
                       T s) {
  const Tensor<T> g = dx || dA ? Tensor<T>({dy.rows, A.rows}) : Tensor<T>();
  low_rank_gradients<T>(g ? g.view() : View<T>(), dA, dB, dy, x, xa, B, s);
  if (dx) gemm<T>(T(1), g, false, A, false, T(dx.accumulate), dx.view);
}

}  // namespace peft::ops
