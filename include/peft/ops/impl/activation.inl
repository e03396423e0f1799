// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "peft/ops/activation.hpp"
#include "peft/ops/impl/rowwise.hpp"

namespace peft::ops {

namespace detail {
// f(integral constant) for the activation that is wanted.
template <class F>
void with_activation(Activation f, const F& call) {
  switch (f) {
    case Activation::silu:
      return call(std::integral_constant<Activation, Activation::silu>());
    case Activation::gelu:
      return call(std::integral_constant<Activation, Activation::gelu>());
    case Activation::gelu_tanh:
      return call(std::integral_constant<Activation, Activation::gelu_tanh>());
    case Activation::relu:
      return call(std::integral_constant<Activation, Activation::relu>());
    case Activation::tanh:
      return call(std::integral_constant<Activation, Activation::tanh>());
  }
}
}  // namespace detail

template <Scalar T>
void activation_forward(View<T> y, View<const T> x, Activation f) {
  detail::with_activation(
      f, [&](auto a) { detail::each_row(x.rows, x.cols, [&](std::int64_t i) { PEFT_DISPATCH(row_activation, a, y.row(i), x.row(i), x.cols); }); });
}
template <Scalar T>
void activation_backward(GradSink<T> dx, View<const T> dy, View<const T> x, Activation f) {
  if (!dx) return;
  detail::with_activation(f, [&](auto a) {
    detail::each_row(x.rows, x.cols,
                     [&](std::int64_t i) { PEFT_DISPATCH(row_activation_backward, a, dx.view.row(i), dx.accumulate, dy.row(i), x.row(i), x.cols); });
  });
}
template <Scalar T>
void gated_forward(View<T> y, View<const T> gate, View<const T> up, Activation f) {
  detail::with_activation(f, [&](auto a) {
    detail::each_row(gate.rows, gate.cols, [&](std::int64_t i) { PEFT_DISPATCH(row_gated, a, y.row(i), gate.row(i), up.row(i), gate.cols); });
  });
}
template <Scalar T>
void gated_backward(GradSink<T> dgate, GradSink<T> dup, View<const T> dy, View<const T> gate, View<const T> up, Activation f) {
  if (!dgate && !dup) return;
  detail::with_activation(f, [&](auto a) {
    detail::each_row(gate.rows, gate.cols, [&](std::int64_t i) {
      T* const to_gate = dgate ? dgate.view.row(i) : nullptr;
      T* const to_up = dup ? dup.view.row(i) : nullptr;
      PEFT_DISPATCH(row_gated_backward, a, to_gate, dgate.accumulate, to_up, dup.accumulate, dy.row(i), gate.row(i), up.row(i), gate.cols);
    });
  });
}

}  // namespace peft::ops
