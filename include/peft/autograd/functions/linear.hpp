// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/parameter.hpp"
#include "peft/autograd/tape.hpp"
#include "peft/ops/gemm.hpp"

namespace peft {

/// y (N, out) = x (N, in) Wᵀ + b.  dx = dy W;  dW = dyᵀ x;  db = Σ_n dy.  Keeps x only if W trains, W as a handle.
template <Scalar T>
Variable<T> linear(const Variable<T>& x, const Parameter<T>& weight, const Parameter<T>& bias = {}) {
  const ops::WeightView w = weight.view();
  if (x.cols() != w.cols) throw ShapeError("linear", "x " + to_string(x.shape()) + " against a weight " + to_string(weight.shape()) + ": in_features differ");
  Shape shape = x.shape();
  shape[-1] = w.rows;
  Tensor<T> y(shape);
  ops::linear_forward<T>(y.view(), x.view(), w, bias ? bias.value().data() : nullptr);
  const bool dw = weight.requires_grad(), db = bias.requires_grad();
  return recorded(std::move(y), x.needs_grad() || dw || db, [dx = x.gradient(), x = dw ? x.kept() : Kept<T>(), in = x.cols(), weight, bias](Tensor<T> dy) {
    if (dx) ops::linear_backward_input<T>(dx.sink(), dy.view(), weight.view());
    if (weight.requires_grad() || bias.requires_grad()) {
      ops::GradSink<T> db_sink = bias.gradient().sink();
      const Tensor<T> kept = x.value();
      ops::linear_backward_weight<T>(weight.gradient().sink(), db_sink, dy.view(), kept ? View<const T>(kept.view()) : View<const T>(nullptr, dy.rows(), in));
    }
  });
}

/// f(x Wᵀ + b), for inference: what backward would need, the argument of f, is never written. Not to be recorded.
template <Scalar T>
Variable<T> linear_activation(const Variable<T>& x, const Parameter<T>& weight, const Parameter<T>& bias, ops::Activation f) {
  if (Tape::current()) throw Error("linear_activation", "a tape records; use linear and activation, which can be differentiated");
  const ops::WeightView w = weight.view();
  if (x.cols() != w.cols) throw ShapeError("linear", "x " + to_string(x.shape()) + " against a weight " + to_string(weight.shape()) + ": in_features differ");
  Shape shape = x.shape();
  shape[-1] = w.rows;
  Tensor<T> y(shape);
  ops::Epilogue<T> then;
  then.f = &f;
  ops::linear_forward<T>(y.view(), x.view(), w, bias ? bias.value().data() : nullptr, false, then);
  return Variable<T>(std::move(y));
}

}  // namespace peft
