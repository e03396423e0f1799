// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <string>
#include <vector>

#include "peft/autograd/parameter.hpp"

namespace peft {

/// One trainable tensor as an optimiser holds it: its name (for the saved state) and what multiplies the rates.
template <Scalar T>
struct Trainable {
  std::string name;
  Parameter<T> parameter;
  double lr_scale = 1;     // LoRA+ gives B a larger one
  double decay_scale = 1;  // 0: no weight decay
};

/// A tensor that several sites share is listed once.
template <Scalar T>
std::vector<Trainable<T>> unique_trainables(std::vector<Trainable<T>> all) {
  std::vector<Trainable<T>> unique;
  for (auto& t : all)
    if (std::none_of(unique.begin(), unique.end(), [&](const auto& u) { return u.parameter.identity() == t.parameter.identity(); }))
      unique.push_back(std::move(t));
  return unique;
}

/// What a training loop asks of an optimiser.
template <class O>
concept Optimizer = requires(O& o, double lr) {
  o.step(lr);
  o.trainables();
  { o.steps() } -> std::convertible_to<std::int64_t>;
  o.set_steps(std::int64_t(0));
  o.for_each_state([](const std::string&, auto&) {});
};

/// √Σ g² over all gradients, in double and in a fixed order.
template <Scalar T>
double grad_norm(const std::vector<Trainable<T>>& trainables) {
  double total = 0;
  for (const auto& t : trainables)
    if (const Tensor<T> g = t.parameter.grad()) total += ops::sum_of_squares<T>(g.view());
  return std::sqrt(total);
}

/// Scales all gradients so that their norm is at most `max_norm`, as torch.nn.utils.clip_grad_norm_ does; returns the norm before.
template <Scalar T>
double clip_grad_norm(const std::vector<Trainable<T>>& trainables, double max_norm) {
  const double norm = grad_norm(trainables), factor = max_norm / (norm + 1e-6);
  if (factor < 1 && std::isfinite(norm))
    for (const auto& t : trainables)
      if (const ops::GradSink<T> g = t.parameter.gradient().empty() ? ops::GradSink<T>() : t.parameter.gradient().sink())
        ops::scale<T>(g.view, T(factor), g.view);
  return norm;
}

template <Scalar T>
void zero_grad(const std::vector<Trainable<T>>& trainables) {
  for (const auto& t : trainables) t.parameter.zero_grad();
}

}  // namespace peft
