// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/tape.hpp"
#include "peft/ops/activation.hpp"

namespace peft {

using ops::Activation;

/// y = f(x); keeps x.
template <Scalar T>
Variable<T> activation(Variable<T> x, Activation f) {
  const bool wanted = recording(x.needs_grad());
  Tensor<T> y = !wanted && x.value().sole_holder() ? x.value() : Tensor<T>(x.shape());
  ops::activation_forward<T>(y.view(), x.view(), f);
  if (!wanted) return Variable<T>(std::move(y));
  const auto again = [x = x.value(), f] {
    Tensor<T> made(x.shape());
    ops::activation_forward<T>(made.view(), x.view(), f);
    return made;
  };
  return recorded(std::move(y), wanted, again,
                  [dx = x.gradient(), x = x.value(), f](Tensor<T> dy) { ops::activation_backward<T>(dx.sink(), dy.view(), x.view(), f); });
}

/// y = c tanh(x / c), where x lies if nobody else holds it; keeps y.
template <Scalar T>
Variable<T> softcap(Variable<T> x, double c) {
  const Gradient<T> dx = x.gradient();
  const bool wanted = recording(x.needs_grad());
  const Tensor<T> in = std::move(x).release();
  Tensor<T> y = in.sole_holder() ? in : Tensor<T>(in.shape());
  ops::softcap_forward<T>(y.view(), in.view(), c);
  if (!wanted) return Variable<T>(std::move(y));
  return recorded(y, true, [dx, y, c](Tensor<T> dy) {
    if (!dy.sole_holder()) dy = dy.clone();
    ops::softcap_backward<T>(dy.view(), dy.view(), y.view(), c);
    dx.add(std::move(dy));
  });
}

/// y = f(gate) ∘ up; keeps both, and forms the gradients where they lie if nobody else holds them.
template <Scalar T>
Variable<T> gated(Variable<T> gate, Variable<T> up, Activation f) {
  if (!(gate.shape() == up.shape())) throw ShapeError("gated", to_string(gate.shape()) + " and " + to_string(up.shape()));
  const bool wanted = recording(gate.needs_grad(), up.needs_grad());
  Tensor<T> y = !wanted && gate.value().sole_holder() ? gate.value() : Tensor<T>(gate.shape());
  ops::gated_forward<T>(y.view(), gate.view(), up.view(), f);
  if (!wanted) return Variable<T>(std::move(y));
  const auto again = [gate = gate.value(), up = up.value(), f] {
    Tensor<T> made(gate.shape());
    ops::gated_forward<T>(made.view(), gate.view(), up.view(), f);
    return made;
  };
  return recorded(std::move(y), wanted, again,
                  [dgate = gate.gradient(), dup = up.gradient(), gate = std::move(gate).release(), up = std::move(up).release(), f](Tensor<T> dy) mutable {
                    // Each element is read before it is written, so the saved inputs become their own gradients.
                    const auto place = [](const Gradient<T>& g, const Tensor<T>& saved) -> ops::GradSink<T> {
                      if (g && g.empty() && saved.sole_holder() && saved.contiguous()) return {saved.view(), false};
                      return g.sink();
                    };
                    const ops::GradSink<T> gate_sink = place(dgate, gate), up_sink = place(dup, up);
                    ops::gated_backward<T>(gate_sink, up_sink, dy.view(), gate.view(), up.view(), f);
                    if (gate_sink.view.data == gate.data()) dgate.add(std::move(gate));
                    if (up_sink.view.data == up.data()) dup.add(std::move(up));
                  });
}

}  // namespace peft
