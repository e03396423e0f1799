// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <memory>
#include <span>
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
///
/// Of a layer that sees a window of w keys, rows that no later query sees are forgotten: it holds at most w + 576, or w + 320 and those of the last
/// forward. They go by multiples of 256 keys, so that attention's sums are the same to the bit.
template <Scalar T>
class KvCache {
 public:
  KvCache() = default;
  /// `windows` has one for each layer, 0 where all keys are seen, or is empty: all of them are. Throws ConfigError for a dtype that is neither T's nor
  /// F16.
  KvCache(std::int64_t layers, std::int64_t width, std::int64_t capacity = 256, DType dtype = dtype_of<T>, std::span<const std::int64_t> windows = {})
      : layers_(std::size_t(layers)), width_(width), dtype_(dtype) {
    if (dtype != dtype_of<T> && dtype != DType::f16)
      throw ConfigError("KvCache", "dtype " + std::string(name(dtype)) + "; allowed are " + std::string(name(dtype_of<T>)) + " and F16");
    if (!windows.empty() && windows.size() != layers_.size())
      throw ShapeError("KvCache", std::to_string(windows.size()) + " windows for " + std::to_string(layers) + " layers");
    for (std::size_t i = 0; i < windows.size(); i++) layers_[i].window = windows[i];
    reserve(capacity);
  }

  /// A cache that begins with what `from` holds, without a copy: `from` must not change as long as anyone continues it. Only for a cache that
  /// continues none itself. Windows are those of `from`, unless others are given.
  static KvCache continuing(std::shared_ptr<const KvCache> from, std::int64_t capacity, std::span<const std::int64_t> windows = {}) {
    if (from->base_) throw Error("KvCache", "only a cache that continues no other one can be continued");
    std::vector<std::int64_t> same;
    for (const Layer& layer : from->layers_) same.push_back(layer.window);
    KvCache cache(from->layers(), from->width_, std::max<std::int64_t>(capacity, 1), from->dtype_,
                  windows.empty() ? std::span<const std::int64_t>(same) : windows);
    cache.made_by = from->made_by, cache.source = from->source, cache.blank = from->blank, cache.prefix = from->prefix;
    cache.front_ = from->front_, cache.rows_ = cache.base_rows_ = from->rows_;
    cache.base_ = std::move(from);
    return cache;
  }
  /// The cache that this one continues, null if none, and how many of its rows count.
  const KvCache* base() const { return base_.get(); }
  std::int64_t base_rows() const { return base_rows_; }
  /// Rows of its own, behind those.
  std::int64_t own_rows() const { return rows_ - base_rows_; }
  /// Of those, how many have been forgotten in this layer. If any, what stands in front of them is out of sight as well.
  std::int64_t forgotten(std::int64_t layer) const { return layers_[std::size_t(layer)].first; }

  DType dtype() const { return dtype_; }
  std::int64_t layers() const { return std::int64_t(layers_.size()); }
  /// Numbers of a key or a value.
  std::int64_t width() const { return width_; }
  /// Tokens that it has seen.
  std::int64_t length() const { return rows_ - front_; }
  /// Keys that it has seen: virtual tokens in front of the first token included.
  std::int64_t rows() const { return rows_; }
  std::int64_t front() const { return front_; }
  std::int64_t capacity() const { return capacity_; }
  /// Rows that a layer's memory has room for; where there is no window, `capacity` of them.
  std::int64_t capacity(std::int64_t layer) const { return layers_[std::size_t(layer)].capacity; }
  /// Room for `n` rows of its own; what is there stays. Layers with a window have no more than that needs.
  void reserve(std::int64_t n) {
    if (n <= capacity_) return;
    capacity_ = std::max(n, capacity_ * 2);
    for (Layer& layer : layers_) {
      const std::int64_t room = layer.window > 0 ? std::min(capacity_, roomy(layer)) : capacity_;
      if (room > layer.capacity) resize(layer, layer.first, own_rows(), room);
    }
  }
  /// Puts new rows behind layer's keys and values, and may forget what they do not see. `advance` makes them count, once all layers have theirs.
  void append(std::int64_t layer, View<const T> k, View<const T> v) {
    reserve(own_rows() + k.rows);
    Layer& to = layers_[std::size_t(layer)];
    make_room(to, k.rows);
    if (dtype_ == DType::f16)
      put(to, to.half_k, k), put(to, to.half_v, v);
    else
      put(to, to.k, k), put(to, to.v, v);
  }
  void advance(std::int64_t rows) { rows_ += rows; }
  /// Forgets what lies behind the first n tokens; virtual tokens in front of them stay. All goes where what follows n would see what is forgotten
  /// already (the last forward and 64 rows before it are always there), and of the context of a blank and what fills it where n ends within the
  /// context: each of its rows has seen the whole. So ask for length() afterwards.
  void truncate(std::int64_t n) {
    if (front_ + n >= rows_) return;
    if ((blank && front_ + n <= blank.span_begin) || !can_end_at(front_ + n)) return restart(0);
    rows_ = front_ + n, base_rows_ = std::min(base_rows_, rows_);
    if (base_rows_ == 0) base_.reset();
  }
  /// Forgets everything; the first `front` rows to come will be virtual tokens.
  void restart(std::int64_t front) {
    rows_ = base_rows_ = 0, front_ = front, base_.reset(), blank = {};
    for (Layer& layer : layers_) layer.first = 0;
  }
  /// Makes this cache hold what `from` holds, of the same shape and dtype, given that their first `common` tokens are equal already. Windows stay its own.
  void copy_from(const KvCache& from, std::int64_t common = 0) {
    if (from.dtype_ != dtype_ || from.width_ != width_ || from.layers_.size() != layers_.size())
      throw ShapeError("KvCache", "a copy of a cache of another shape or dtype");
    common = std::max(common, from.base_rows_ - from.front_);
    if (made_by != from.made_by || front_ != from.front_ || base_ != from.base_ || base_rows_ != from.base_rows_ || blank != from.blank ||
        (blank && front_ + common <= blank.span_begin) || !can_end_at(std::min(front_ + common, rows_))) {
      restart(from.front_);
      base_ = from.base_, rows_ = base_rows_ = from.base_rows_;
    }
    made_by = from.made_by, source = from.source, prefix = from.prefix;
    truncate(common);
    blank = from.blank;
    if (from.rows_ <= rows_) return;
    reserve(from.own_rows());
    for (std::size_t i = 0; i < layers_.size(); i++) copy_layer(layers_[i], from.layers_[i], own_rows(), from.rows_);
    rows_ = from.rows_;
  }
  // The first n of its own rows without those that the layer has forgotten.
  Tensor<T> keys(std::int64_t layer, std::int64_t n) const { return part(layer, layers_[std::size_t(layer)].k, n); }
  Tensor<T> values(std::int64_t layer, std::int64_t n) const { return part(layer, layers_[std::size_t(layer)].v, n); }
  Tensor<Float16> half_keys(std::int64_t layer, std::int64_t n) const { return part(layer, layers_[std::size_t(layer)].half_k, n); }
  Tensor<Float16> half_values(std::int64_t layer, std::int64_t n) const { return part(layer, layers_[std::size_t(layer)].half_v, n); }

  /// The active list that made the content; checked by whoever continues it.
  std::vector<int> made_by;
  /// What cross-attention reads: keys and values of the source, for every layer (Transformer::remember_source). Null without an encoder.
  std::shared_ptr<const KvCache> source;
  /// Where the sequence has a blank; found in its first forward.
  Blank blank;
  /// Keys that attention puts in front of all of these (Front::past): with them, forgotten rows are whole multiples of attention's ranges.
  std::int64_t prefix = 0;

 private:
  static constexpr std::int64_t unit = 256;  // attention sums up ranges of keys that begin at multiples of it
  static constexpr std::int64_t back = 64;   // rows to go back by: guesses that were wrong, the end of a turn

  struct Layer {
    Tensor<T> k, v;
    Tensor<Float16> half_k, half_v;
    std::int64_t window = 0, first = 0, capacity = 0;  // first: the own row that the tensors begin with
  };
  // Own rows that need not be there for queries behind the first `rows`.
  std::int64_t dispensable(const Layer& layer, std::int64_t rows) const {
    if (layer.window == 0 || blank) return 0;
    const std::int64_t seen = prefix + rows + 1 - layer.window - back;  // from the prefix on
    return seen <= 0 ? 0 : std::max<std::int64_t>(seen / unit * unit - prefix - base_rows_, 0);
  }
  // Whether all that a query behind the first `rows` sees is there.
  bool can_end_at(std::int64_t rows) const {
    for (std::size_t i = 0; i < layers_.size(); i++) {
      const std::int64_t seen = std::max<std::int64_t>(rows + 1 - layers_[i].window, 0);
      if (layers_[i].first > 0 && seen < base_rows_ + layers_[i].first) return false;
      if (base_ && base_->layers_[i].first > 0 && seen < base_->layers_[i].first) return false;
    }
    return true;
  }
  void make_room(Layer& layer, std::int64_t rows) {
    if (own_rows() - layer.first + rows <= layer.capacity) return;
    const std::int64_t first = std::max(layer.first, dispensable(layer, rows_));
    resize(layer, first, own_rows(), std::max(own_rows() - first + rows, roomy(layer)));
  }
  // Rows for a window: several forwards of one row go by before any are moved.
  static std::int64_t roomy(const Layer& layer) { return layer.window + back + 2 * unit; }
  // The layer's own rows first … end, in memory for so many.
  void resize(Layer& layer, std::int64_t first, std::int64_t end, std::int64_t capacity) {
    const std::int64_t kept = (end - first) * width_, skipped = (first - layer.first) * width_;
    const auto move = [&](auto& rows) {
      std::remove_reference_t<decltype(rows)> to = capacity == layer.capacity ? rows : std::remove_reference_t<decltype(rows)>({capacity, width_});
      if (rows) std::copy_n(rows.data() + skipped, kept, to.data());  // forwards, where they overlap
      rows = std::move(to);
    };
    if (dtype_ == DType::f16)
      move(layer.half_k), move(layer.half_v);
    else
      move(layer.k), move(layer.v);
    layer.first = first, layer.capacity = capacity;
  }
  template <class U>
  void put(const Layer& layer, const Tensor<U>& to, View<const T> rows) {
    for (std::int64_t i = 0; i < rows.rows; i++) {
      U* const at = to.data() + (own_rows() - layer.first + i) * width_;
      if constexpr (std::is_same_v<U, T>)
        std::copy_n(rows.row(i), width_, at);
      else
        for (std::int64_t c = 0; c < width_; c++) at[c] = to_float16(float(rows.row(i)[c]));
    }
  }
  // All own rows of `from`, of which the first `equal` are here already, except what a window here leaves out.
  void copy_layer(Layer& to, const Layer& from, std::int64_t equal, std::int64_t rows) {
    const std::int64_t own = rows - base_rows_, first = std::max(from.first, dispensable(to, rows));
    if (to.first > first || first > equal) to.first = equal = first;  // nothing that is here can stay
    if (own - to.first > to.capacity) resize(to, first, equal, std::max(own - first, roomy(to)));
    const auto rest = [&](auto& here, const auto& there) {
      if (here) std::copy_n(there.data() + (equal - from.first) * width_, (own - equal) * width_, here.data() + (equal - to.first) * width_);
    };
    rest(to.k, from.k), rest(to.v, from.v), rest(to.half_k, from.half_k), rest(to.half_v, from.half_v);
  }
  template <class U>
  Tensor<U> part(std::int64_t layer, const Tensor<U>& rows, std::int64_t n) const {
    return rows.row_range(0, n - layers_[std::size_t(layer)].first);
  }
  std::vector<Layer> layers_;
  std::shared_ptr<const KvCache> base_;
  std::int64_t width_ = 0, capacity_ = 0, rows_ = 0, front_ = 0, base_rows_ = 0;  // rows_: those of base_ included
  DType dtype_ = dtype_of<T>;
};

}  // namespace peft
