// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "peft/core/tensor.hpp"

namespace peft {

/// Keys and values of one sequence so far, for every layer: what a decoder needs of its past. Remembers which active list made it, and
/// serves no other.
template <Scalar T>
class KvCache {
 public:
  KvCache() = default;
  KvCache(std::int64_t layers, std::int64_t width, std::int64_t capacity = 256) : layers_(std::size_t(layers)), width_(width) { reserve(capacity); }

  /// Tokens that it holds.
  std::int64_t length() const { return rows_ - front_; }
  /// Keys that it holds: virtual tokens in front of the first token included.
  std::int64_t rows() const { return rows_; }
  std::int64_t front() const { return front_; }
  std::int64_t capacity() const { return capacity_; }
  /// Room for `n` keys; what is there stays.
  void reserve(std::int64_t n) {
    if (n <= capacity_) return;
    capacity_ = std::max(n, capacity_ * 2);
    for (auto& layer : layers_)
      for (Tensor<T>* old : {&layer.k, &layer.v}) {
        Tensor<T> grown({capacity_, width_});
        if (*old) std::copy_n(old->data(), rows_ * width_, grown.data());
        *old = std::move(grown);
      }
  }
  /// Puts new rows behind layer's keys and values. `advance` makes them count, once all layers have theirs.
  void append(std::int64_t layer, View<const T> k, View<const T> v) {
    reserve(rows_ + k.rows);
    for (std::int64_t i = 0; i < k.rows; i++) {
      std::copy_n(k.row(i), width_, layers_[std::size_t(layer)].k.data() + (rows_ + i) * width_);
      std::copy_n(v.row(i), width_, layers_[std::size_t(layer)].v.data() + (rows_ + i) * width_);
    }
  }
  void advance(std::int64_t rows) { rows_ += rows; }
  /// Forgets what lies behind the first n tokens; virtual tokens in front of them stay.
  void truncate(std::int64_t n) { rows_ = std::min(front_ + n, rows_); }
  /// Forgets everything; the first `front` rows to come will be virtual tokens.
  void restart(std::int64_t front) { rows_ = 0, front_ = front; }
  Tensor<T> keys(std::int64_t layer, std::int64_t n) const { return layers_[std::size_t(layer)].k.row_range(0, n); }
  Tensor<T> values(std::int64_t layer, std::int64_t n) const { return layers_[std::size_t(layer)].v.row_range(0, n); }

  /// The active list that made the content; checked by whoever continues it.
  std::vector<int> made_by;

 private:
  struct Layer {
    Tensor<T> k, v;
  };
  std::vector<Layer> layers_;
  std::int64_t width_ = 0, capacity_ = 0, rows_ = 0, front_ = 0;
};

}  // namespace peft
