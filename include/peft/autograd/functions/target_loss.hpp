// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include "peft/autograd/tape.hpp"

namespace peft {

namespace detail {
// mean of term(x, target) over all entries; slope is its derivative by x. For heads with few outputs.
template <Scalar T, class Term, class Slope>
Variable<T> mean_loss(std::string_view operation, const Variable<T>& x, const Tensor<T>& targets, Term term, Slope slope) {
  if (!(x.shape() == targets.shape())) throw ShapeError(operation, "outputs " + to_string(x.shape()) + " against targets " + to_string(targets.shape()));
  double total = 0;
  for (std::int64_t i = 0; i < x.rows(); i++)
    for (std::int64_t j = 0; j < x.cols(); j++) total += term(double(x.value()(i, j)), double(targets(i, j)));
  return recorded(Tensor<T>({}, T(total / double(targets.size()))), x.needs_grad(), [dx = x.gradient(), x = x.value(), targets, slope](Tensor<T> dy) {
    Tensor<T> g(x.shape());
    for (std::int64_t i = 0; i < x.rows(); i++)
      for (std::int64_t j = 0; j < x.cols(); j++) g(i, j) = T(double(dy[0]) / double(targets.size()) * slope(double(x(i, j)), double(targets(i, j))));
    dx.add(std::move(g));
  });
}
}  // namespace detail

/// mean (x − target)²: regression. x, targets (N, outputs)
template <Scalar T>
Variable<T> mse_loss(const Variable<T>& x, const Tensor<T>& targets) {
  return detail::mean_loss(
      "mse_loss", x, targets, [](double a, double t) { return (a - t) * (a - t); }, [](double a, double t) { return 2 * (a - t); });
}

/// mean −(t log σ(x) + (1 − t) log(1 − σ(x))): several labels at once. x, targets (N, labels), targets 0 … 1
template <Scalar T>
Variable<T> binary_cross_entropy_with_logits(const Variable<T>& x, const Tensor<T>& targets) {
  return detail::mean_loss(
      "binary_cross_entropy", x, targets, [](double a, double t) { return std::max(a, 0.0) - a * t + std::log1p(std::exp(-std::abs(a))); },
      [](double a, double t) { return 1 / (1 + std::exp(-a)) - t; });
}

}  // namespace peft
