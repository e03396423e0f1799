// SPDX-License-Identifier: Apache-2.0
// A row of logits, and what is often asked of it.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "peft/core/storage.hpp"

namespace peft {

namespace detail {

template <class V>
using Scratch = std::vector<V, PoolAllocator<V>>;
template <Scalar T>
inline constexpr T removed = -std::numeric_limits<T>::infinity();

template <Scalar T>
bool in_row(std::span<T> row, std::int32_t id) {
  return id >= 0 && std::size_t(id) < row.size();
}

template <Scalar T>
T largest(std::span<const T> row) {
  T most = removed<T>;
  for (T l : row) most = l > most ? l : most;
  return most;
}

/// e (V): e^(l − max) of each logit; returns their sum.
template <Scalar T>
double exponentials(std::span<const T> row, Scratch<T>& e) {
  const T most = largest(row);
  e.resize(row.size());
  double sum = 0;
  for (std::size_t i = 0; i < row.size(); i++) {
    e[i] = row[i] == removed<T> ? T(0) : std::exp(row[i] - most);
    sum += double(e[i]);
  }
  return sum;
}

template <Scalar T>
Scratch<T> probabilities(std::span<const T> row) {
  Scratch<T> p;
  const double sum = exponentials(row, p);
  if (sum > 0)
    for (T& x : p) x = T(double(x) / sum);
  return p;
}

}  // namespace detail
}  // namespace peft
