// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "peft/core/parallel.hpp"
#include "peft/ops/weight_view.hpp"

namespace peft::ops {

// Two-dimensional transforms of real numbers by cosines and sines of half a period: the cosine of −u is that of u, its sine the negative, so that
// an index u of n and its mirror n − u share a row of a table.

/// How many indices of n are left when each stands for its mirror too.
constexpr std::int64_t half_period(std::int64_t n) { return n / 2 + 1; }

/// Where an index stands in a table of half a period, and the sign of the sine there.
template <Scalar T>
struct Folded {
  std::int64_t index;
  T sign;
  Folded(std::int64_t i, std::int64_t n) : index(std::min(i, n - i)), sign(2 * i > n ? T(-1) : T(1)) {}
};

/// cos and sin of 2π u p / n for u, p = 0 … ⌊n/2⌋.
template <Scalar T>
void half_waves(View<T> cosine, View<T> sine, std::int64_t n) {
  std::vector<T> c(static_cast<std::size_t>(n)), s(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; i++) {
    const double angle = 2 * 3.14159265358979323846 * double(i) / double(n);
    c[std::size_t(i)] = T(std::cos(angle)), s[std::size_t(i)] = T(std::sin(angle));
  }
  for (std::int64_t u = 0; u < cosine.rows; u++)
    for (std::int64_t p = 0, turn = 0; p < cosine.cols; p++, turn = (turn + u) % n) cosine(u, p) = c[std::size_t(turn)], sine(u, p) = s[std::size_t(turn)];
}

/// y(p, q) = factor (even(p', q') − s(p) s(q) odd(p', q')), where p', q' and the signs are those of Folded.
template <Scalar T>
void unfold_waves(View<T> y, View<const T> even, View<const T> odd, T factor) {
  const std::int64_t half = half_period(y.cols);
  parallel_for(y.rows, [&](std::int64_t p) {
    const Folded<T> row(p, y.rows);
    for (std::int64_t q = 0; q < half; q++) y(p, q) = factor * (even(row.index, q) - row.sign * odd(row.index, q));
    for (std::int64_t q = half; q < y.cols; q++) y(p, q) = factor * (even(row.index, y.cols - q) + row.sign * odd(row.index, y.cols - q));
  });
}

/// What unfold_waves takes apart, added up: even(p', q') = Σ y(p, q), odd(p', q') = Σ s(p) s(q) y(p, q) over the p, q that fold there.
template <Scalar T>
void fold_waves(View<T> even, View<T> odd, View<const T> y) {
  const std::int64_t half = even.cols;
  parallel_for(even.rows, [&](std::int64_t folded) {
    for (std::int64_t q = 0; q < half; q++) even(folded, q) = odd(folded, q) = 0;
    const std::int64_t mirror = (y.rows - folded) % y.rows;
    for (const std::int64_t p : {folded, mirror}) {
      const T sign = Folded<T>(p, y.rows).sign;
      for (std::int64_t q = 0; q < half; q++) even(folded, q) += y(p, q), odd(folded, q) += sign * y(p, q);
      for (std::int64_t q = half; q < y.cols; q++) even(folded, y.cols - q) += y(p, q), odd(folded, y.cols - q) -= sign * y(p, q);
      if (mirror == folded) break;
    }
  });
}

}  // namespace peft::ops
