// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/core/float16.hpp"
#include "peft/core/tensor.hpp"
#include "peft/nn/blank.hpp"

namespace peft {

/// Keys and values of one sequence so far, for every layer: what a decoder needs of its past. Remembers which active list made it, and
/// serves no other. Stored as T, or, for half the memory, as F16.
///
/// A cache may continue another one (`continuing`): it reads the first rows there and holds its own behind them. So many sequences with a common
/// beginning have it in memory once. A cache of an encoder-decoder's decoder also knows the keys and values of what is decoded from.
template <Scalar T>
class KvCache {
 public:
  KvCache() = default;
  /// Throws ConfigError for a dtype that is neither T's nor F16.
  KvCache(std::int64_t layers, std::int64_t width, std::int64_t capacity = 256, DType dtype = dtype_of<T>)
      : layers_(std::size_t(layers)), width_(width), dtype_(dtype) {
    if (dtype != dtype_of<T> && dtype != DType::f16)
      throw ConfigError("KvCache", "dtype " + std::string(name(dtype)) + "; allowed are " + std::string(name(dtype_of<T>)) + " and F16");
    reserve(capacity);
  }

  /// A cache that begins with what `from` holds, without a copy: `from` must not change as long as anyone continues it. Only for a cache of T's
  /// own type that continues none itself.
  static KvCache continuing(std::shared_ptr<const KvCache> from, std::int64_t capacity) {
    if (from->base_ || from->dtype_ != dtype_of<T>) throw Error("KvCache", "only a cache of full precision that continues no other one can be continued");
    KvCache cache(from->layers(), from->width_, std::max<std::int64_t>(capacity, 1));
    cache.made_by = from->made_by, cache.source = from->source, cache.blank = from->blank;
    cache.front_ = from->front_, cache.rows_ = cache.base_rows_ = from->rows_;
    cache.base_ = std::move(from);
    return cache;
  }
  /// The cache that this one continues, null if none, and how many of its rows count.
  const KvCache* base() const { return base_.get(); }
  std::int64_t base_rows() const { return base_rows_; }
  /// Rows of its own, behind those.
  std::int64_t own_rows() const { return rows_ - base_rows_; }

  DType dtype() const { return dtype_; }
  std::int64_t layers() const { return std::int64_t(layers_.size()); }
  /// Numbers of a key or a value.
  std::int64_t width() const { return width_; }
  /// Tokens that it holds.
  std::int64_t length() const { return rows_ - front_; }
  /// Keys that it holds: virtual tokens in front of the first token included.
  std::int64_t rows() const { return rows_; }
  std::int64_t front() const { return front_; }
  std::int64_t capacity() const { return capacity_; }
  /// Room for `n` rows of its own; what is there stays.
  void reserve(std::int64_t n) {
    if (n <= capacity_) return;
    capacity_ = std::max(n, capacity_ * 2);
    for (Layer& layer : layers_)
      if (dtype_ == DType::f16)
        grow(layer.half_k), grow(layer.half_v);
      else
        grow(layer.k), grow(layer.v);
  }
  /// Puts new rows behind layer's keys and values. `advance` makes them count, once all layers have theirs.
  void append(std::int64_t layer, View<const T> k, View<const T> v) {
    reserve(own_rows() + k.rows);
    Layer& to = layers_[std::size_t(layer)];
    if (dtype_ == DType::f16)
      put(to.half_k, k), put(to.half_v, v);
    else
      put(to.k, k), put(to.v, v);
  }
  void advance(std::int64_t rows) { rows_ += rows; }
  /// Forgets what lies behind the first n tokens; virtual tokens in front of them stay. Of the context of a blank and what fills it all goes where n ends
  /// within the context: each of its rows has seen the whole.
  void truncate(std::int64_t n) {
    if (blank && front_ + n <= blank.span_begin) return restart(0);
    rows_ = std::min(front_ + n, rows_), base_rows_ = std::min(base_rows_, rows_);
    if (base_rows_ == 0) base_.reset();
  }
  /// Forgets everything; the first `front` rows to come will be virtual tokens.
  void restart(std::int64_t front) { rows_ = base_rows_ = 0, front_ = front, base_.reset(), blank = {}; }
  /// Makes this cache hold what `from` holds, of the same shape and dtype, given that their first `common` tokens are equal already.
  void copy_from(const KvCache& from, std::int64_t common = 0) {
    if (from.dtype_ != dtype_ || from.width_ != width_ || from.layers_.size() != layers_.size())
      throw ShapeError("KvCache", "a copy of a cache of another shape or dtype");
    if (made_by != from.made_by || front_ != from.front_ || base_ != from.base_ || base_rows_ != from.base_rows_ || blank != from.blank ||
        (blank && front_ + common <= blank.span_begin)) {
      restart(from.front_);
      base_ = from.base_, rows_ = base_rows_ = from.base_rows_;
    }
    made_by = from.made_by, source = from.source;
    truncate(std::max(common, from.base_rows_ - from.front_));
    blank = from.blank;
    if (from.rows_ <= rows_) return;
    reserve(from.own_rows());
    const auto rest = [&](auto& to, const auto& there) {
      if (to) std::copy(there.data() + own_rows() * width_, there.data() + from.own_rows() * width_, to.data() + own_rows() * width_);
    };
    for (std::size_t i = 0; i < layers_.size(); i++) {
      Layer& to = layers_[i];
      const Layer& there = from.layers_[i];
      rest(to.k, there.k), rest(to.v, there.v), rest(to.half_k, there.half_k), rest(to.half_v, there.half_v);
    }
    rows_ = from.rows_;
  }
  // The first n of its own rows.
  Tensor<T> keys(std::int64_t layer, std::int64_t n) const { return layers_[std::size_t(layer)].k.row_range(0, n); }
  Tensor<T> values(std::int64_t layer, std::int64_t n) const { return layers_[std::size_t(layer)].v.row_range(0, n); }
  Tensor<Float16> half_keys(std::int64_t layer, std::int64_t n) const { return layers_[std::size_t(layer)].half_k.row_range(0, n); }
  Tensor<Float16> half_values(std::int64_t layer, std::int64_t n) const { return layers_[std::size_t(layer)].half_v.row_range(0, n); }

  /// The active list that made the content; checked by whoever continues it.
  std::vector<int> made_by;
  /// What cross-attention reads: keys and values of the source, for every layer (Transformer::remember_source). Null without an encoder.
  std::shared_ptr<const KvCache> source;
  /// Where the sequence has a blank; found in its first forward.
  Blank blank;

 private:
  struct Layer {
    Tensor<T> k, v;
    Tensor<Float16> half_k, half_v;
  };
  template <class U>
  void grow(Tensor<U>& old) {
    Tensor<U> grown({capacity_, width_});
    if (old) std::copy_n(old.data(), own_rows() * width_, grown.data());
    old = std::move(grown);
  }
  template <class U>
  void put(const Tensor<U>& to, View<const T> rows) {
    for (std::int64_t i = 0; i < rows.rows; i++) {
      U* const at = to.data() + (own_rows() + i) * width_;
      if constexpr (std::is_same_v<U, T>)
        std::copy_n(rows.row(i), width_, at);
      else
        for (std::int64_t c = 0; c < width_; c++) at[c] = to_float16(float(rows.row(i)[c]));
    }
  }
  std::vector<Layer> layers_;
  std::shared_ptr<const KvCache> base_;
  std::int64_t width_ = 0, capacity_ = 0, rows_ = 0, front_ = 0, base_rows_ = 0;  // rows_: those of base_ included
  DType dtype_ = dtype_of<T>;
};

}  // namespace peft
