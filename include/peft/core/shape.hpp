// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "peft/core/error.hpp"

namespace peft {

/// Up to six dimensions, row-major, by value. Everything except the last axis is "rows", the last one "columns": (…, C) is (N, C).
class Shape {
 public:
  static constexpr int max_rank = 6;
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const std::int64_t> sizes) : rank_(int(sizes.size())) {
    if (sizes.size() > max_rank) throw ShapeError("shape", std::to_string(sizes.size()) + " dimensions, at most 6 are supported");
    std::copy(sizes.begin(), sizes.end(), sizes_.begin());
  }
  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return sizes_[std::size_t(axis < 0 ? axis + rank_ : axis)]; }
  std::int64_t& operator[](int axis) { return sizes_[std::size_t(axis < 0 ? axis + rank_ : axis)]; }
  const std::int64_t* begin() const { return sizes_.data(); }
  const std::int64_t* end() const { return sizes_.data() + rank_; }
  std::int64_t size() const { return rows() * columns(); }
  std::int64_t rows() const {
    std::int64_t n = 1;
    for (int i = 0; i + 1 < rank_; i++) n *= sizes_[std::size_t(i)];
    return n;
  }
  std::int64_t columns() const { return rank_ ? sizes_[std::size_t(rank_ - 1)] : 1; }
  bool operator==(const Shape& other) const { return rank_ == other.rank_ && std::equal(begin(), end(), other.begin()); }

 private:
  std::array<std::int64_t, max_rank> sizes_{};
  int rank_ = 0;
};

/// "(576, 8)"
inline std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int i = 0; i < shape.rank(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

}  // namespace peft
