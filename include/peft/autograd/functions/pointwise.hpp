// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "peft/autograd/tape.hpp"

namespace peft {

/// y[i] = f(x[i]), with df(x, y) = dy/dx.
template <Scalar T, class F, class D>
Variable<T> pointwise(const Variable<T>& x, F f, D df) {
  const Tensor<T> in = x.value().contiguous() ? x.value() : x.value().clone();
  Tensor<T> y(x.shape());
  for (std::int64_t i = 0; i < y.size(); i++) y[i] = f(in[i]);
  return recorded(y, x.needs_grad(), [dx = x.gradient(), in, y, df](Tensor<T> dy) {
    Tensor<T> g = dy.clone();
    for (std::int64_t i = 0; i < g.size(); i++) g[i] *= df(in[i], y[i]);
    dx.add(std::move(g));
  });
}

template <Scalar T>
Variable<T> cos(const Variable<T>& x) {
  return pointwise(
      x, [](T v) { return std::cos(v); }, [](T v, T) { return -std::sin(v); });
}

template <Scalar T>
Variable<T> sin(const Variable<T>& x) {
  return pointwise(
      x, [](T v) { return std::sin(v); }, [](T v, T) { return std::cos(v); });
}

template <Scalar T>
Variable<T> reciprocal(const Variable<T>& x) {
  return pointwise(
      x, [](T v) { return 1 / v; }, [](T, T y) { return -y * y; });
}

template <Scalar T>
Variable<T> sigmoid(const Variable<T>& x) {
  return pointwise(
      x, [](T v) { return 1 / (1 + std::exp(-v)); }, [](T, T y) { return y * (1 - y); });
}

}  // namespace peft
