// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "peft/ops/elementwise.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/low_rank.hpp"

namespace peft::ops {

template <Scalar T>
void low_rank_forward(View<T> y, View<T> xa, View<const T> x, View<const T> A, View<const T> B, T s) {
  linear_forward<T>(xa, x, WeightView(A));
  Tensor<T> scaled({xa.rows, xa.cols});
  scale<T>(scaled.view(), s, xa);
  linear_forward<T>(y, scaled.view(), WeightView(B), nullptr, true);
}

template <Scalar T>
void low_rank_backward(GradSink<T> dx, GradSink<T> dA, GradSink<T> dB, View<const T> dy, View<const T> x, View<const T> xa, View<const T> A, View<const T> B,
                       T s) {
  if (dB) {
    Tensor<T> scaled({xa.rows, xa.cols});
    scale<T>(scaled.view(), s, xa);
    linear_backward_weight<T>(dB, {}, dy, scaled.view());
  }
  if (!dx && !dA) return;
  Tensor<T> g({dy.rows, A.rows});  // s · dy B
  linear_backward_input<T>({g.view(), false}, dy, WeightView(B));
  scale<T>(g.view(), s, g.view());
  if (dA) linear_backward_weight<T>(dA, {}, g.view(), x);
  if (dx) linear_backward_input<T>(dx, g.view(), WeightView(A));
}

}  // namespace peft::ops
