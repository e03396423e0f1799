// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/tape.hpp"

namespace peft {

/// y = f(x) that keeps x alone: f runs again in backward (Chen et al. 2016, arXiv:1604.06174). f must be a pure function of x and of what
/// it captures; whatever it reads from its surroundings (the Pass) must be captured with it. Gradients of captured parameters and variables
/// arrive in the inner backward. If f records nothing, nothing stays.
template <Scalar T, class F>
Variable<T> checkpoint(F f, const Variable<T>& x) {
  if (!Tape::current()) return f(x);
  Tensor<T> y;
  bool wanted = false;
  {
    Tape scratch;
    Variable<T> in = x.needs_grad() ? Variable<T>(x.value(), true) : Variable<T>(x.value());
    Variable<T> out = f(in);
    wanted = out.needs_grad();
    y = std::move(out).release();
  }
  return recorded(std::move(y), wanted, [f = std::move(f), dx = x.gradient(), x = x.value()](Tensor<T> dy) {
    Tape again;
    const Variable<T> in = dx ? Variable<T>(x, true) : Variable<T>(x);
    again.backward(f(in), std::move(dy));
    if (dx) dx.add(in.gradient().take());
  });
}

}  // namespace peft
