// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

#include "peft/core/tensor.hpp"

namespace peft {

/// A tensor as Eigen sees it: (N, C), leading axes flattened, rows `stride` apart.
template <class T>
using EigenMap = Eigen::Map<std::conditional_t<std::is_const_v<T>, const Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>,
                                               Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>,
                            Eigen::Unaligned, Eigen::OuterStride<>>;

/// The same numbers, without a copy: what is written through either side is seen by the other. A vector (n) is one row. The map holds no
/// handle: some tensor must keep the memory alive as long as the map is used.
template <class T>
EigenMap<T> as_eigen(const Tensor<T>& tensor) {
  return EigenMap<T>(tensor.data(), tensor.rows(), tensor.cols(), Eigen::OuterStride<>(tensor.stride()));
}
template <class T>
EigenMap<T> as_eigen(const View<T>& view) {
  return EigenMap<T>(view.data, view.rows, view.cols, Eigen::OuterStride<>(view.stride));
}

namespace detail {
template <class M>
concept EigenMatrix = std::derived_from<M, Eigen::EigenBase<M>>;

// Rows `stride` apart, as a handle that borrows them.
template <class T>
Tensor<T> borrow_rows(T* data, std::int64_t rows, std::int64_t cols, std::int64_t stride, std::shared_ptr<const void> keep) {
  if (stride == cols || rows <= 1) return Tensor<T>::borrow(data, {rows, cols}, std::move(keep));
  return Tensor<T>::borrow(data, {rows, stride}, std::move(keep)).columns(0, cols);
}

template <class M>
auto borrow_eigen(M& matrix, std::shared_ptr<const void> keep) {
  using Plain = std::remove_const_t<M>;
  static_assert((Plain::Flags & Eigen::DirectAccessBit) != 0, "as_tensor: this expression has no memory of its own; evaluate it into a matrix");
  if constexpr ((Plain::Flags & Eigen::DirectAccessBit) != 0) {
    static_assert(Plain::IsRowMajor || Plain::IsVectorAtCompileTime,
                  "as_tensor: a tensor is row-major; use Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>");
    static_assert(Plain::InnerStrideAtCompileTime == 1, "as_tensor: the elements of a row must lie side by side");
    auto* data = matrix.data();
    if constexpr (Plain::IsVectorAtCompileTime)
      return Tensor<std::remove_pointer_t<decltype(data)>>::borrow(data, {matrix.size()}, std::move(keep));
    else
      return borrow_rows(data, matrix.rows(), matrix.cols(), matrix.outerStride(), std::move(keep));
  }
}
}  // namespace detail

/// A row-major matrix, Map or Block of Eigen's as a tensor (rows, cols), a vector as (n), without a copy; column-major ones do not compile. The
/// caller keeps its memory alive. Of a const matrix: a Tensor<const T>.
template <class M>
requires detail::EigenMatrix<std::remove_cvref_t<M>>
auto as_tensor(M& matrix) { return detail::borrow_eigen(matrix, nullptr); }
/// A temporary moves in and lives as long as any handle of the tensor; a temporary Map or Block is a view of memory that the caller keeps.
template <class M>
requires(detail::EigenMatrix<M> && !std::is_reference_v<M>) auto as_tensor(M&& matrix) {
  if constexpr (std::derived_from<M, Eigen::PlainObjectBase<M>>) {
    const auto kept = std::make_shared<M>(std::move(matrix));
    return detail::borrow_eigen(*kept, kept);
  } else {
    return detail::borrow_eigen(matrix, nullptr);
  }
}

}  // namespace peft
