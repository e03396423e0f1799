// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/ops/weight_view.hpp"

namespace peft::ops {

// Matrices that are made of an adapter's few numbers: rotations, Kronecker products, norms. Small, so plain loops.

/// Where each element of a result comes from: y[i] = sign[i] · x[from[i]], or 0 where from[i] < 0. No signs: all 1.
struct GatherMap {
  std::vector<std::int64_t> from;
  std::vector<std::int8_t> sign;
};
template <Scalar T>
void gather(std::span<T> y, std::span<const T> x, const GatherMap& map) {
  for (std::size_t i = 0; i < y.size(); i++) {
    const std::int64_t from = map.from[i];
    y[i] = from < 0 ? T(0) : map.sign.empty() ? x[std::size_t(from)] : T(map.sign[i]) * x[std::size_t(from)];
  }
}
/// dx[from[i]] += sign[i] · dy[i], in the order of i.
template <Scalar T>
void gather_backward(std::span<T> dx, std::span<const T> dy, const GatherMap& map) {
  for (std::size_t i = 0; i < dy.size(); i++)
    if (const std::int64_t from = map.from[i]; from >= 0) dx[std::size_t(from)] += map.sign.empty() ? dy[i] : T(map.sign[i]) * dy[i];
}

/// y = x ∘ c, c (cols) the same for every row; y may be x.
template <Scalar T>
void scale_columns(View<T> y, View<const T> x, const T* c) {
  for (std::int64_t i = 0; i < x.rows; i++)
    for (std::int64_t j = 0; j < x.cols; j++) y(i, j) = x(i, j) * c[j];
}
/// y row i = r[i] · x row i; y may be x.
template <Scalar T>
void scale_rows(View<T> y, View<const T> x, const T* r) {
  for (std::int64_t i = 0; i < x.rows; i++)
    for (std::int64_t j = 0; j < x.cols; j++) y(i, j) = x(i, j) * r[i];
}
/// y row i += alpha · c
template <Scalar T>
void add_to_rows(View<T> y, T alpha, const T* c) {
  for (std::int64_t i = 0; i < y.rows; i++)
    for (std::int64_t j = 0; j < y.cols; j++) y(i, j) += alpha * c[j];
}
/// c[j] += Σ_i x(i, j) · y(i, j), in the order of i.
template <Scalar T>
void add_column_dots(T* c, View<const T> x, View<const T> y) {
  for (std::int64_t i = 0; i < x.rows; i++)
    for (std::int64_t j = 0; j < x.cols; j++) c[j] += x(i, j) * y(i, j);
}
/// r[i] += Σ_j x(i, j) · y(i, j)
template <Scalar T>
void add_row_dots(T* r, View<const T> x, View<const T> y) {
  for (std::int64_t i = 0; i < x.rows; i++) {
    double sum = 0;
    for (std::int64_t j = 0; j < x.cols; j++) sum += double(x(i, j)) * double(y(i, j));
    r[i] += T(sum);
  }
}
/// y = x⁻¹ of a square matrix, by Gauss and Jordan with pivots, in double. Throws ConfigError if there is none.
template <Scalar T>
void invert(View<T> y, View<const T> x) {
  const std::int64_t n = x.rows;
  std::vector<double> a(std::size_t(n * 2 * n), 0.0);
  const auto at = [&](std::int64_t i, std::int64_t j) -> double& { return a[std::size_t(i * 2 * n + j)]; };
  for (std::int64_t i = 0; i < n; i++) {
    for (std::int64_t j = 0; j < n; j++) at(i, j) = double(x(i, j));
    at(i, n + i) = 1;
  }
  for (std::int64_t k = 0; k < n; k++) {
    std::int64_t pivot = k;
    for (std::int64_t i = k + 1; i < n; i++)
      if (std::abs(at(i, k)) > std::abs(at(pivot, k))) pivot = i;
    if (!(std::abs(at(pivot, k)) > 1e-300)) throw ConfigError("invert", "a matrix of " + std::to_string(n) + " rows has no inverse");
    for (std::int64_t j = 0; j < 2 * n; j++) std::swap(at(k, j), at(pivot, j));
    const double scale = 1 / at(k, k);
    for (std::int64_t j = 0; j < 2 * n; j++) at(k, j) *= scale;
    for (std::int64_t i = 0; i < n; i++) {
      const double factor = at(i, k);
      if (i == k || factor == 0) continue;
      for (std::int64_t j = 0; j < 2 * n; j++) at(i, j) -= factor * at(k, j);
    }
  }
  for (std::int64_t i = 0; i < n; i++)
    for (std::int64_t j = 0; j < n; j++) y(i, j) = T(at(i, n + j));
}
/// Each row the softmax of x's.
template <Scalar T>
void softmax_rows(View<T> y, View<const T> x) {
  for (std::int64_t i = 0; i < x.rows; i++) {
    T largest = x(i, 0), sum = 0;
    for (std::int64_t j = 1; j < x.cols; j++) largest = std::max(largest, x(i, j));
    for (std::int64_t j = 0; j < x.cols; j++) sum += y(i, j) = std::exp(x(i, j) - largest);
    for (std::int64_t j = 0; j < x.cols; j++) y(i, j) /= sum;
  }
}
/// dx += y ∘ (dy − Σ_j dy ∘ y)
template <Scalar T>
void softmax_rows_backward(View<T> dx, View<const T> dy, View<const T> y) {
  for (std::int64_t i = 0; i < y.rows; i++) {
    T dot = 0;
    for (std::int64_t j = 0; j < y.cols; j++) dot += dy(i, j) * y(i, j);
    for (std::int64_t j = 0; j < y.cols; j++) dx(i, j) += y(i, j) * (dy(i, j) - dot);
  }
}
/// y (ra · rb, ca · cb) = a ⊗ b
template <Scalar T>
void kronecker(View<T> y, View<const T> a, View<const T> b) {
  for (std::int64_t i = 0; i < a.rows; i++)
    for (std::int64_t p = 0; p < b.rows; p++)
      for (std::int64_t j = 0; j < a.cols; j++)
        for (std::int64_t q = 0; q < b.cols; q++) y(i * b.rows + p, j * b.cols + q) = a(i, j) * b(p, q);
}
/// da += …, db += … ; either may be nobody's.
template <Scalar T>
void kronecker_backward(View<T> da, View<T> db, View<const T> dy, View<const T> a, View<const T> b) {
  for (std::int64_t i = 0; i < a.rows; i++)
    for (std::int64_t p = 0; p < b.rows; p++)
      for (std::int64_t j = 0; j < a.cols; j++) {
        T sum = 0;
        for (std::int64_t q = 0; q < b.cols; q++) {
          const T g = dy(i * b.rows + p, j * b.cols + q);
          sum += g * b(p, q);
          if (db) db(p, q) += g * a(i, j);
        }
        if (da) da(i, j) += sum;
      }
}

/// y (N, r) = the sums of x's columns j, j + r, j + 2 r, …
template <Scalar T>
void fold_columns(View<T> y, View<const T> x) {
  for (std::int64_t i = 0; i < x.rows; i++) {
    std::fill_n(y.row(i), y.cols, T(0));
    for (std::int64_t j = 0; j < x.cols; j++) y(i, j % y.cols) += x(i, j);
  }
}
/// dx += dy, as often as it was summed.
template <Scalar T>
void fold_columns_backward(View<T> dx, View<const T> dy) {
  for (std::int64_t i = 0; i < dx.rows; i++)
    for (std::int64_t j = 0; j < dx.cols; j++) dx(i, j) += dy(i, j % dy.cols);
}
/// In each group of columns (a, b), halves of it: y = (−b, a), or with `back` (b, −a).
template <Scalar T>
void rotate_halves(View<T> y, View<const T> x, std::int64_t group, bool back) {
  const std::int64_t half = group / 2;
  const T sign = back ? T(1) : T(-1);
  for (std::int64_t i = 0; i < x.rows; i++)
    for (std::int64_t j = 0; j < x.cols; j += group)
      for (std::int64_t k = 0; k < half; k++) y(i, j + k) = sign * x(i, j + half + k), y(i, j + half + k) = -sign * x(i, j + k);
}
/// y column from[j] = x column j, or with `back` y column j = x column from[j].
template <Scalar T>
void permute_columns(View<T> y, View<const T> x, std::span<const std::int64_t> from, bool back) {
  for (std::int64_t i = 0; i < x.rows; i++)
    for (std::int64_t j = 0; j < x.cols; j++)
      if (back)
        y(i, from[std::size_t(j)]) = x(i, j);
      else
        y(i, j) = x(i, from[std::size_t(j)]);
}

/// y (M b, N b) of circulant blocks: y[m b + p, n b + q] = factor · kernel[m, n, (q − p) mod b], kernel (M, N, b).
template <Scalar T>
void circulant(View<T> y, const T* kernel, std::int64_t b, T factor) {
  const std::int64_t across = y.cols / b;
  for (std::int64_t o = 0; o < y.rows; o++)
    for (std::int64_t n = 0; n < across; n++) {
      const std::int64_t p = o % b;
      const T* const k = kernel + (o / b * across + n) * b;
      T* const row = &y(o, n * b);
      for (std::int64_t q = 0; q < p; q++) row[q] = factor * k[q - p + b];
      for (std::int64_t q = p; q < b; q++) row[q] = factor * k[q - p];
    }
}
/// dkernel += what its elements have in y's gradient.
template <Scalar T>
void circulant_backward(T* dkernel, View<const T> dy, std::int64_t b, T factor) {
  const std::int64_t across = dy.cols / b;
  for (std::int64_t o = 0; o < dy.rows; o++)
    for (std::int64_t n = 0; n < across; n++) {
      const std::int64_t p = o % b;
      T* const k = dkernel + (o / b * across + n) * b;
      const T* const row = &dy(o, n * b);
      for (std::int64_t q = 0; q < p; q++) k[q - p + b] += factor * row[q];
      for (std::int64_t q = p; q < b; q++) k[q - p] += factor * row[q];
    }
}

/// A sparse (out, in): value k stands at (row[k], column[k]).
struct SparsePlaces {
  std::vector<std::int32_t> row, column;
};
/// y += x Sᵀ
template <Scalar T>
void sparse_update(View<T> y, View<const T> x, const T* values, const SparsePlaces& at) {
  for (std::int64_t n = 0; n < x.rows; n++)
    for (std::size_t k = 0; k < at.row.size(); k++) y(n, at.row[k]) += values[k] * x(n, at.column[k]);
}
/// y += S
template <Scalar T>
void add_entries(View<T> y, const T* values, const SparsePlaces& at) {
  for (std::size_t k = 0; k < at.row.size(); k++) y(at.row[k], at.column[k]) += values[k];
}
/// values[k] = x at the place of value k
template <Scalar T>
void take_entries(T* values, View<const T> x, const SparsePlaces& at) {
  for (std::size_t k = 0; k < at.row.size(); k++) values[k] = x(at.row[k], at.column[k]);
}

/// The k largest of a row, in that order; of equal ones the first.
template <Scalar T>
void top_of_row(std::int64_t* indices, std::int64_t k, const T* row, std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; i++) order[std::size_t(i)] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return row[a] > row[b]; });
  std::copy_n(order.begin(), k, indices);
}

}  // namespace peft::ops
