// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <type_traits>

#include "peft/ops/activation.hpp"
#include "peft/ops/impl/rowwise.hpp"

#define PEFT_KERNELS "peft/ops/impl/activation_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops {

namespace detail {
// call(an integral constant) for the activation that is wanted.
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
  detail::check_same_shape("activation", y, x);
  detail::with_activation(f, [&](auto which) {
    detail::each_piece(x.rows, x.cols, y.contiguous() && x.contiguous(),
                       [&](std::int64_t i, std::int64_t first, std::int64_t n) { PEFT_DISPATCH(activate, which, y.row(i) + first, x.row(i) + first, n); });
  });
}
template <Scalar T>
void activation_backward(GradSink<T> dx, View<const T> dy, View<const T> x, Activation f) {
  if (!dx) return;
  detail::check_same_shape("activation backward", dx.view, x), detail::check_same_shape("activation backward", dy, x);
  detail::with_activation(f, [&](auto which) {
    detail::each_piece(x.rows, x.cols, dx.view.contiguous() && dy.contiguous() && x.contiguous(), [&](std::int64_t i, std::int64_t first, std::int64_t n) {
      PEFT_DISPATCH(activate_backward, which, dx.view.row(i) + first, dx.accumulate, dy.row(i) + first, x.row(i) + first, n);
    });
  });
}

template <Scalar T>
void gated_forward(View<T> y, View<const T> gate, View<const T> up, Activation f) {
  detail::check_same_shape("gated", y, gate), detail::check_same_shape("gated", gate, up);
  detail::with_activation(f, [&](auto which) {
    detail::each_piece(y.rows, y.cols, y.contiguous() && gate.contiguous() && up.contiguous(), [&](std::int64_t i, std::int64_t first, std::int64_t n) {
      PEFT_DISPATCH(gate_forward, which, y.row(i) + first, gate.row(i) + first, up.row(i) + first, n);
    });
  });
}
template <Scalar T>
void gated_backward(GradSink<T> dgate, GradSink<T> dup, View<const T> dy, View<const T> gate, View<const T> up, Activation f) {
  if (!dgate && !dup) return;
  detail::check_same_shape("gated backward", dy, gate), detail::check_same_shape("gated backward", gate, up);
  const bool whole = (!dgate || dgate.view.contiguous()) && (!dup || dup.view.contiguous()) && dy.contiguous() && gate.contiguous() && up.contiguous();
  detail::with_activation(f, [&](auto which) {
    detail::each_piece(dy.rows, dy.cols, whole, [&](std::int64_t i, std::int64_t first, std::int64_t n) {
      T* const to_gate = dgate ? dgate.view.row(i) + first : nullptr;
      T* const to_up = dup ? dup.view.row(i) + first : nullptr;
      PEFT_DISPATCH(gate_backward, which, to_gate, dgate.accumulate, to_up, dup.accumulate, dy.row(i) + first, gate.row(i) + first, up.row(i) + first, n);
    });
  });
}

namespace detail {
inline void check_softcap(const char* operation, double c) {
  if (!(c > 0)) throw ConfigError(operation, "softcap is " + std::to_string(c) + "; a positive number is wanted");
}
}  // namespace detail

template <Scalar T>
void softcap_forward(View<T> y, View<const T> x, double c) {
  detail::check_softcap("softcap", c), detail::check_same_shape("softcap", y, x);
  detail::each_piece(x.rows, x.cols, y.contiguous() && x.contiguous(), [&](std::int64_t i, std::int64_t first, std::int64_t n) {
    PEFT_DISPATCH(row_softcap<T>, y.row(i) + first, static_cast<T*>(nullptr), x.row(i) + first, T(c), n);
  });
}
template <Scalar T>
void softcap_backward(View<T> dx, View<const T> dy, View<const T> y, double c) {
  detail::check_softcap("softcap backward", c), detail::check_same_shape("softcap backward", dx, y), detail::check_same_shape("softcap backward", dy, y);
  detail::each_piece(y.rows, y.cols, dx.contiguous() && dy.contiguous() && y.contiguous(), [&](std::int64_t i, std::int64_t first, std::int64_t n) {
    PEFT_DISPATCH(row_softcap_backward<T>, dx.row(i) + first, dy.row(i) + first, y.row(i) + first, T(c), n);
  });
}

}  // namespace peft::ops
