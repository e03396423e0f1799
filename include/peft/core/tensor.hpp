// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>

#include "peft/core/dtype.hpp"
#include "peft/core/shape.hpp"
#include "peft/core/storage.hpp"

namespace peft {

/// A matrix that somebody else owns: what ops work on. Row i begins at data + i · stride.
template <class T>
struct View {
  T* data = nullptr;
  std::int64_t rows = 0, cols = 0, stride = 0;

  View() = default;
  View(T* d, std::int64_t r, std::int64_t c) : data(d), rows(r), cols(c), stride(c) {}
  View(T* d, std::int64_t r, std::int64_t c, std::int64_t s) : data(d), rows(r), cols(c), stride(s) {}
  operator View<const T>() const requires(!std::is_const_v<T>) { return {data, rows, cols, stride}; }

  T* row(std::int64_t i) const { return data + i * stride; }
  T& operator()(std::int64_t i, std::int64_t j) const { return data[i * stride + j]; }
  View row_range(std::int64_t begin, std::int64_t end) const { return {row(begin), end - begin, cols, stride}; }
  View columns(std::int64_t begin, std::int64_t end) const { return {data + begin, rows, end - begin, stride}; }
  bool contiguous() const { return stride == cols || rows <= 1; }
  explicit operator bool() const { return data != nullptr; }
};

/// A handle on numbers in memory: copies share them. Row-major; rows may be apart (a view of some columns), elements of a row not.
template <class T>
class Tensor {
 public:
  Tensor() = default;
  /// Uninitialised.
  explicit Tensor(const Shape& shape) : storage_(Storage::allocate(std::size_t(shape.size()) * sizeof(T))), shape_(shape), stride_(shape.columns()) {
    data_ = static_cast<T*>(storage_.data());
  }
  Tensor(const Shape& shape, T value) : Tensor(shape) { fill(value); }
  Tensor(const Shape& shape, std::span<const T> values) : Tensor(shape) {
    if (std::int64_t(values.size()) != shape.size()) throw ShapeError("tensor", std::to_string(values.size()) + " values for the shape " + to_string(shape));
    std::copy(values.begin(), values.end(), data_);
  }
  static Tensor zeros(const Shape& shape) { return Tensor(shape, T(0)); }
  /// Memory of the caller's, without a copy; `keep` is held as long as any handle lives.
  static Tensor borrow(T* data, const Shape& shape, std::shared_ptr<const void> keep = nullptr) {
    Tensor t;
    t.storage_ = Storage::borrow(const_cast<std::remove_const_t<T>*>(data), std::size_t(shape.size()) * sizeof(T), std::move(keep));
    t.data_ = data, t.shape_ = shape, t.stride_ = shape.columns();
    return t;
  }

  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  std::int64_t size() const { return storage_ ? shape_.size() : 0; }
  std::int64_t rows() const { return shape_.rows(); }
  std::int64_t cols() const { return shape_.columns(); }
  std::int64_t stride() const { return stride_; }
  bool contiguous() const { return stride_ == cols() || rows() <= 1; }
  explicit operator bool() const { return bool(storage_); }
  bool sole_holder() const { return storage_.sole_holder(); }

  T* data() const { return data_; }
  std::span<T> span() const { return {data_, std::size_t(size())}; }
  T& operator[](std::int64_t i) const { return data_[i]; }
  T& operator()(std::int64_t i, std::int64_t j) const { return data_[i * stride_ + j]; }
  /// As (N, C): leading axes flattened.
  View<T> view() const { return {data_, rows(), cols(), stride_}; }
  operator View<T>() const { return view(); }
  operator View<const T>() const requires(!std::is_const_v<T>) { return view(); }

  /// Rows begin..end of the flattened (N, C), sharing memory.
  Tensor row_range(std::int64_t begin, std::int64_t end) const {
    if (begin < 0 || end < begin || end > rows()) throw ShapeError("row_range", range(begin, end) + " of " + to_string(shape_));
    Tensor t = *this;
    t.data_ += begin * stride_, t.shape_ = {end - begin, cols()};
    return t;
  }
  /// Columns begin..end, sharing memory: a part of a fused projection.
  Tensor columns(std::int64_t begin, std::int64_t end) const {
    if (begin < 0 || end < begin || end > cols()) throw ShapeError("columns", range(begin, end) + " of " + to_string(shape_));
    Tensor t = *this;
    t.data_ += begin, t.shape_[-1] = end - begin;
    return t;
  }
  /// The same first row, and `n` rows in all, if the allocation holds that many: joins neighbours again.
  bool can_grow_rows(std::int64_t n) const {
    const T* start = static_cast<const T*>(storage_.data());
    return storage_ && data_ + (n - 1) * stride_ + cols() <= start + storage_.bytes() / sizeof(T);
  }
  Tensor grow_rows(std::int64_t n) const {
    Tensor t = *this;
    t.shape_ = {n, cols()};
    return t;
  }
  Tensor reshape(const Shape& shape) const {
    if (shape.size() != size() || (!contiguous() && shape.columns() != cols()))
      throw ShapeError("reshape", to_string(shape_) + " cannot be seen as " + to_string(shape));
    Tensor t = *this;
    t.shape_ = shape;
    if (contiguous()) t.stride_ = shape.columns();
    return t;
  }
  void fill(T value) const {
    for (std::int64_t i = 0; i < rows(); i++) std::fill_n(data_ + i * stride_, cols(), value);
  }
  /// A contiguous copy.
  Tensor clone() const {
    Tensor t(shape_);
    for (std::int64_t i = 0; i < rows(); i++) std::copy_n(data_ + i * stride_, cols(), t.data_ + i * cols());
    return t;
  }

 private:
  static std::string range(std::int64_t begin, std::int64_t end) { return std::to_string(begin) + ".." + std::to_string(end); }
  Storage storage_;
  T* data_ = nullptr;
  Shape shape_;
  std::int64_t stride_ = 0;
};

}  // namespace peft
