// SPDX-License-Identifier: Apache-2.0
// Tensors for tests: random, poisoned, standing in a larger one; and the same numbers as xtensor sees them, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>
#include <xtensor/xarray.hpp>

#include "peft/core/random.hpp"
#include "peft/core/tensor.hpp"

namespace peft::testing {

using Array = xt::xarray<double>;

template <class T>
Tensor<T> random_normal(const Shape& shape, std::uint64_t seed = 1, double deviation = 1) {
  Tensor<T> t(shape);
  Random random(seed);
  for (T& value : t.span()) value = T(random.normal() * deviation);
  return t;
}
/// Whoever reads this before it is written shows it.
template <class T>
Tensor<T> poisoned(const Shape& shape) {
  return Tensor<T>(shape, std::numeric_limits<T>::quiet_NaN());
}
/// The same numbers with `gap` foreign numbers (NaN) between the rows.
template <class T>
Tensor<T> with_gaps(const Tensor<T>& t, std::int64_t gap = 3) {
  const Tensor<T> wide = poisoned<T>({t.rows(), t.cols() + gap}), part = wide.columns(0, t.cols());
  for (std::int64_t i = 0; i < t.rows(); i++)
    for (std::int64_t j = 0; j < t.cols(); j++) part(i, j) = t(i, j);
  return part;
}
template <class T, class U>
Tensor<T> cast(const Tensor<U>& t) {
  Tensor<T> to(t.shape());
  for (std::int64_t i = 0; i < t.rows(); i++)
    for (std::int64_t j = 0; j < t.cols(); j++) to.data()[i * t.cols() + j] = T(t(i, j));
  return to;
}

template <class T>
Array array(View<T> v) {
  Array a = Array::from_shape({std::size_t(v.rows), std::size_t(v.cols)});
  for (std::int64_t i = 0; i < v.rows; i++)
    for (std::int64_t j = 0; j < v.cols; j++) a(i, j) = double(v(i, j));
  return a;
}
template <class T>
Array array(const Tensor<T>& t) {
  Array a = array(t.view());
  a.reshape(std::vector<std::size_t>(t.shape().begin(), t.shape().end()));
  return a;
}

/// The elements row by row: to compare few of them, exactly.
template <class T>
std::vector<T> numbers(const Tensor<T>& t) {
  std::vector<T> all;
  for (std::int64_t i = 0; i < t.rows(); i++) all.insert(all.end(), t.view().row(i), t.view().row(i) + t.cols());
  return all;
}

template <class T>
bool same_bits(const Tensor<T>& a, const Tensor<T>& b) {
  if (!(a.shape() == b.shape())) return false;
  for (std::int64_t i = 0; i < a.rows(); i++)
    if (!std::equal(reinterpret_cast<const std::byte*>(a.view().row(i)), reinterpret_cast<const std::byte*>(a.view().row(i) + a.cols()),
                    reinterpret_cast<const std::byte*>(b.view().row(i))))
      return false;
  return true;
}

// Another library's products depend on which rows a batch holds and on its threads; the library's own do not.
#if defined(PEFT_GEMM_OPENBLAS) || defined(PEFT_GEMM_ONEDNN)
inline constexpr bool own_products = false;
#else
inline constexpr bool own_products = true;
#endif

/// The same bits; by another library's products, the same but for rounding.
template <class T>
bool same_product(View<const T> a, View<const T> b) {
  if (a.rows != b.rows || a.cols != b.cols) return false;
  double worst = 0, size = 0;
  for (std::int64_t i = 0; i < a.rows; i++) {
    if (own_products && !std::equal(reinterpret_cast<const std::byte*>(a.row(i)), reinterpret_cast<const std::byte*>(a.row(i) + a.cols),
                                    reinterpret_cast<const std::byte*>(b.row(i))))
      return false;
    for (std::int64_t j = 0; j < a.cols; j++)
      worst = std::max(worst, std::abs(double(a(i, j)) - double(b(i, j)))), size = std::max(size, std::abs(double(a(i, j))));
  }
  return worst <= (sizeof(T) == 4 ? 1e-5 : 1e-13) * size;
}
template <class T>
bool same_product(const Tensor<T>& a, const Tensor<T>& b) {
  return same_product<T>(a.view(), b.view());
}

}  // namespace peft::testing
