// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "peft/core/random.hpp"
#include "peft/core/tensor.hpp"

namespace peft::ops {

// Combining the tensors of several tasks into one. All have one shape.

/// Δ = W' − W, in double. `added`: what would be added if it is a sum; where W' is W + added to its roundings, Δ is that, without them.
template <Scalar T>
Tensor<double> change_between(View<const T> before, View<const T> after, View<const T> added) {
  Tensor<double> delta({before.rows, before.cols});
  bool is_sum = true;
  for (std::int64_t i = 0; i < before.rows; i++)
    for (std::int64_t j = 0; j < before.cols; j++) {
      const double from = double(before(i, j)), plus = double(added(i, j));
      delta(i, j) = double(after(i, j)) - from;
      const double rounding = 16 * double(std::numeric_limits<T>::epsilon()) * (std::abs(from) + std::abs(plus));
      is_sum = is_sum && std::abs(delta(i, j) - plus) <= rounding;
    }
  if (is_sum)
    for (std::int64_t i = 0; i < before.rows; i++)
      for (std::int64_t j = 0; j < before.cols; j++) delta(i, j) = double(added(i, j));
  return delta;
}
/// Keeps the ⌊density · n⌋ entries of largest magnitude, of equal ones the first.
template <Scalar T>
void prune_by_magnitude(std::span<T> x, double density) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto kept = std::min(x.size(), std::size_t(density * double(x.size())));
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return std::abs(x[a]) > std::abs(x[b]); });
  for (std::size_t i = kept; i < order.size(); i++) x[order[i]] = 0;
}
/// Keeps each entry with probability `density`, and divides it by that  (DARE, Yu et al. 2024, arXiv:2311.03099).
template <Scalar T>
void prune_at_random(std::span<T> x, double density, Random& random) {
  for (T& value : x) value = random.uniform() < density ? T(double(value) / density) : T(0);
}
/// Σ_t weights[t] · tasks[t]
template <Scalar T>
Tensor<T> weighted_sum(const std::vector<Tensor<T>>& tasks, std::span<const double> weights) {
  Tensor<T> y = Tensor<T>::zeros(tasks.at(0).shape());
  for (std::int64_t i = 0; i < y.size(); i++) {
    double sum = 0;
    for (std::size_t t = 0; t < tasks.size(); t++) sum += weights[t] * double(tasks[t][i]);
    y[i] = T(sum);
  }
  return y;
}
/// TIES (Yadav et al. 2023, arXiv:2306.01708): the mean of weights[t] · tasks[t] over the tasks that have the majority's sign in an entry. The
/// majority is that of the sum of values, or of signs (`by_frequency`).
template <Scalar T>
Tensor<T> mean_of_majority(const std::vector<Tensor<T>>& tasks, std::span<const double> weights, bool by_frequency) {
  Tensor<T> y = Tensor<T>::zeros(tasks.at(0).shape());
  const auto sign = [](double v) { return v > 0 ? 1 : v < 0 ? -1 : 0; };
  for (std::int64_t i = 0; i < y.size(); i++) {
    double balance = 0, sum = 0;
    for (const Tensor<T>& task : tasks) balance += by_frequency ? sign(double(task[i])) : double(task[i]);
    const int majority = balance >= 0 ? 1 : -1;
    std::int64_t n = 0;
    for (std::size_t t = 0; t < tasks.size(); t++)
      if (sign(double(tasks[t][i])) == majority) sum += weights[t] * double(tasks[t][i]), n++;
    y[i] = T(sum / double(std::max<std::int64_t>(n, 1)));
  }
  return y;
}

}  // namespace peft::ops
