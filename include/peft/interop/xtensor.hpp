// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#include <xtensor/xadapt.hpp>
#include <xtensor/xcontainer.hpp>
#include <xtensor/xexpression.hpp>
#include <xtensor/xstrided_view.hpp>

#include "peft/core/tensor.hpp"

namespace peft {

/// The same numbers as an xtensor expression of the tensor's shape, without a copy: what is written through either side is seen by the other.
/// Of a Tensor<const T> it is read only. The expression holds no handle: some tensor must keep the memory alive as long as it is used.
template <class T>
auto as_xtensor(const Tensor<T>& tensor) {
  const Shape& shape = tensor.shape();
  std::vector<std::size_t> sizes(shape.begin(), shape.end());
  std::vector<std::ptrdiff_t> strides(sizes.size(), 1);
  // The last axis is dense, the leading ones are rows at one distance.
  std::ptrdiff_t step = tensor.stride();
  for (int axis = shape.rank() - 1; axis-- > 0; step *= shape[axis]) strides[std::size_t(axis)] = step;
  const std::size_t extent = tensor.size() ? std::size_t((tensor.rows() - 1) * tensor.stride() + tensor.cols()) : 0;
  // A view of the whole extent: an adaptor with strides of its own would forget them when it is assigned to. Sizes in a std::vector: of its own
  // svector xtensor 0.24 makes an array of fixed rank in C++20.
  return xt::strided_view(xt::adapt(tensor.data(), extent, xt::no_ownership(), std::array{extent}), std::move(sizes), std::move(strides));
}

namespace detail {
template <class E>
concept XtensorExpression = xt::is_xexpression<E>::value;

template <class E>
auto borrow_xtensor(E& expression, std::shared_ptr<const void> keep) {
  using Plain = std::remove_const_t<E>;
  static_assert(xt::has_data_interface<Plain>::value && xt::has_strides<Plain>::value,
                "as_tensor: this expression has no memory of its own; evaluate it with xt::eval");
  static_assert(Plain::static_layout != xt::layout_type::column_major, "as_tensor: a tensor is row-major");
  auto* data = expression.data() + expression.data_offset();
  using T = std::remove_pointer_t<decltype(data)>;
  const Shape shape(std::vector<std::int64_t>(expression.shape().begin(), expression.shape().end()));
  // What a tensor can be: the last axis dense, the leading ones rows at one distance. Axes of size 1 (xtensor: stride 0) may have any.
  std::int64_t stride = shape.columns(), step = 0;
  bool fits = true, found = false;
  for (int axis = shape.rank(); axis-- > 0 && shape.size() > 0;) {
    if (shape[axis] == 1) continue;
    const std::int64_t here = std::int64_t(expression.strides()[std::size_t(axis)]);
    if (axis + 1 == shape.rank()) {
      fits = here == 1;
    } else {
      if (!std::exchange(found, true)) stride = step = here, fits = fits && here >= shape.columns();
      fits = fits && here == step;
      step *= shape[axis];
    }
  }
  if (!fits) throw ShapeError("as_tensor", "an expression " + to_string(shape) + " whose strides no row-major tensor has; evaluate it with xt::eval");
  if (stride == shape.columns()) return Tensor<T>::borrow(data, shape, std::move(keep));
  return Tensor<T>::borrow(data, {shape.rows(), stride}, std::move(keep)).columns(0, shape.columns()).reshape(shape);
}
}  // namespace detail

/// An array of xtensor's (or a view with strides, or an adaptor) as a tensor, without a copy. The caller keeps its memory alive. Of a const
/// array: a Tensor<const T>. Column-major arrays do not compile; ShapeError for strides that no row-major tensor has.
template <class E>
requires detail::XtensorExpression<std::remove_cvref_t<E>>
auto as_tensor(E& expression) { return detail::borrow_xtensor(expression, nullptr); }
/// A temporary array moves in and lives as long as any handle of the tensor; a temporary view or adaptor shows memory that the caller keeps.
template <class E>
requires(detail::XtensorExpression<E> && !std::is_reference_v<E>) auto as_tensor(E&& expression) {
  if constexpr (std::derived_from<E, xt::xcontainer<E>>) {
    const auto kept = std::make_shared<E>(std::move(expression));
    return detail::borrow_xtensor(*kept, kept);
  } else {
    return detail::borrow_xtensor(expression, nullptr);
  }
}

}  // namespace peft
