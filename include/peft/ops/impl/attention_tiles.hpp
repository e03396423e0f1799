// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <limits>

#include "peft/core/tensor.hpp"
#include "peft/ops/attention.hpp"
#include "peft/ops/impl/gemm_kernels.hpp"
#include "peft/ops/impl/math.hpp"
#include "peft/ops/impl/scratch.hpp"
#include "peft/ops/isa.hpp"

namespace peft::ops::detail {

/// Keys are taken in tiles that begin at multiples of 64 of the key index, whoever asks: a query's sums have the same order in prefill,
/// with a cache, and in any batch.
inline constexpr std::int64_t key_tile = 64;
/// Tiles are summed up in ranges that begin at multiples of 256, and the ranges joined in their order: so the ranges of a long cache can be
/// computed side by side.
inline constexpr std::int64_t key_range = 256;
/// A block has so many lanes, (query, head) pairs that share a key head, if there are as many queries.
inline constexpr std::int64_t block_lanes = 64;
/// With at most so many (one or few tokens behind a cache), keys and values are read where they are.
inline constexpr std::int64_t few_lanes = 8;

constexpr std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Some queries of one sequence with the heads that share one key head. Lane i · group + g is query i, head g.
template <class T>
struct QueryBlock {
  std::int64_t lanes, rows, width;  // rows, width: the next multiples of 8, 16
  std::int64_t dim, padded;         // of a head; the next multiple of 16
  T softcap;                        // c of c tanh(s / c); 0: none
  T *q, *qt;                        // scale · q: (width, padded) and (padded, width)
  T* p;                             // (key_tile, width)
  T *first, *last;                  // (width): the lane sees keys first … last of the tile
  // forward
  T *o, *largest, *total;              // of the current range of keys: Σ e^s v (width, padded), max s and Σ e^s (width), the maximum taken off s
  T *all_o, *all_largest, *all_total;  // of the ranges before it
  T *shrink, *keep, *spare;            // (width), (width), (padded): working memory
  // backward
  T *dout, *doutt, *ds, *dq;  // as q, qt, p, o; dq null if nobody wants it
  T *lse, *delta;             // (width)
  bool wants_ds;              // even if neither dq nor dk is wanted
};

/// Keys j = 0 … count of a tile.
template <class T>
struct KeyTile {
  std::int64_t count, context;                   // the first `context` are visible to all
  bool masked;                                   // otherwise every lane sees all of them
  bool biased;                                   // p holds what is added to the scores
  T *k, *v;                                      // (key_tile, padded), copied; zeros behind what there is. count is a multiple of 8
  const T *k_rows[key_tile], *v_rows[key_tile];  // or where they are
};

}  // namespace peft::ops::detail

#define PEFT_KERNELS "peft/ops/impl/attention_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops::detail {

template <class T>
std::int64_t prefix_rows(const AttentionSequence<T>& s) {
  return s.prefix_k ? s.prefix_k.rows : 0;
}

/// Keys in front of its own.
template <class T>
std::int64_t keys_ahead(const AttentionSequence<T>& s) {
  return prefix_rows(s) + s.past_keys();
}
template <class T>
bool has_half_keys(const AttentionSequence<T>& s) {
  return bool(s.k_half) || bool(s.past_k_half);
}

/// One sequence's keys for one key head as one list: the prefix, the past, then its own.
template <class T>
struct KeyList {
  const AttentionSequence<T>& s;
  std::int64_t column, prefix, ahead;
  KeyList(const AttentionSequence<T>& sequence, std::int64_t first_column)
      : s(sequence), column(first_column), prefix(prefix_rows(sequence)), ahead(keys_ahead(sequence)) {}
  bool half(std::int64_t j) const { return j >= ahead ? bool(s.k_half) : j >= prefix && s.past_k_half; }
  const T* k(std::int64_t j) const { return (j >= ahead ? s.k.row(j - ahead) : j < prefix ? s.prefix_k.row(j) : s.past_k.row(j - prefix)) + column; }
  const T* v(std::int64_t j) const { return (j >= ahead ? s.v.row(j - ahead) : j < prefix ? s.prefix_v.row(j) : s.past_v.row(j - prefix)) + column; }
  const Float16* half_k(std::int64_t j) const { return (j >= ahead ? s.k_half.row(j - ahead) : s.past_k_half.row(j - prefix)) + column; }
  const Float16* half_v(std::int64_t j) const { return (j >= ahead ? s.v_half.row(j - ahead) : s.past_v_half.row(j - prefix)) + column; }
};

/// The queries first … end of a sequence, one key head, and which keys they see.
template <class T>
struct Block {
  const AttentionShape& shape;
  const AttentionSequence<T>& s;
  std::int64_t kv_head, first, end;
  std::int64_t group, keys, offset, context;  // query row n sits at key index n + offset

  Block(const AttentionShape& attention, const AttentionSequence<T>& sequence, std::int64_t head, std::int64_t begin, std::int64_t stop)
      : shape(attention), s(sequence), kv_head(head), first(begin), end(stop) {
    group = shape.heads / shape.kv_heads, keys = keys_ahead(s) + s.own_keys(), offset = keys - s.end, context = std::min(s.context, keys);
  }
  std::int64_t lanes() const { return (end - first) * group; }
  std::int64_t row(std::int64_t lane) const { return first + lane / group; }
  std::int64_t head(std::int64_t lane) const { return kv_head * group + lane % group; }
  // Query row n sees keys from … to, and the context.
  std::int64_t from(std::int64_t n) const { return shape.window > 0 ? std::max<std::int64_t>(0, n + offset + 1 - shape.window) : 0; }
  std::int64_t to(std::int64_t n) const {
    if (shape.causal) return n + offset + 1;
    return shape.window > 0 ? std::min(keys, n + offset + shape.window) : keys;
  }
  /// Behind the last key that any of them sees.
  std::int64_t last() const { return std::max(to(end - 1), context); }
  bool sees_some(std::int64_t begin, std::int64_t stop) const { return begin < context || (from(first) < stop && begin < to(end - 1)); }
  bool all_see_all(std::int64_t begin, std::int64_t stop) const { return stop <= context || (from(end - 1) <= begin && stop <= to(first)); }
};

inline std::int64_t queries_per_block(const AttentionShape& shape) { return std::max<std::int64_t>(1, block_lanes / (shape.heads / shape.kv_heads)); }

/// The parts of a query block that forward and backward share, and the tile's copies, cut from a chunk's memory.
template <class T>
void cut_block(QueryBlock<T>& b, KeyTile<T>& t, Pieces<T>& memory, const AttentionShape& shape) {
  const std::int64_t most = queries_per_block(shape) * (shape.heads / shape.kv_heads), width = round_up(most, 16);
  b.dim = shape.head_dim, b.padded = round_up(shape.head_dim, 16), b.softcap = T(shape.softcap);
  b.q = memory.cut(width * b.padded), b.qt = memory.cut(width * b.padded), b.p = memory.cut(key_tile * width);
  b.first = memory.cut(width), b.last = memory.cut(width);
  t.k = memory.cut(key_tile * b.padded), t.v = memory.cut(key_tile * b.padded);
}
inline std::int64_t block_elements(const AttentionShape& shape) {
  const std::int64_t width = round_up(queries_per_block(shape) * (shape.heads / shape.kv_heads), 16), padded = round_up(shape.head_dim, 16);
  return 2 * width * padded + key_tile * width + 2 * width + 2 * key_tile * padded;
}

/// Rows of the block's lanes from a matrix (N, heads · head_dim) to (width, padded), zeros where there is no lane.
template <class T>
void load_lanes(T* to, const QueryBlock<T>& b, const Block<T>& block, const View<const T>& from, T factor) {
  for (std::int64_t lane = 0; lane < b.lanes; lane++)
    PEFT_DISPATCH(pack_row<T>, to + lane * b.padded, from.row(block.row(lane)) + block.head(lane) * b.dim, factor, b.dim, b.padded);
  std::fill(to + b.lanes * b.padded, to + b.width * b.padded, T(0));
}
/// The queries, and what they see.
template <class T>
void load_queries(QueryBlock<T>& b, const Block<T>& block, const View<const T>& q) {
  b.lanes = block.lanes(), b.rows = round_up(b.lanes, 8), b.width = round_up(b.lanes, 16);
  load_lanes<T>(b.q, b, block, q, T(block.shape.scale));
  PEFT_DISPATCH(turn<T>, b.qt, static_cast<const T*>(b.q), b.width, b.padded);
}

/// Keys begin … of a tile that some of the block's queries see: which of them each lane sees, and unless `in_place` copies of them.
template <class T>
void load_tile(KeyTile<T>& t, const QueryBlock<T>& b, const Block<T>& block, std::int64_t begin, bool in_place) {
  const KeyList<T> list(block.s, block.kv_head * b.dim);
  const std::int64_t there = std::min(begin + key_tile, block.keys) - begin, seen = std::min(there, block.last() - begin);
  t.count = in_place ? seen : round_up(seen, 8);
  t.context = block.context - begin;
  t.masked = t.count > there || !block.all_see_all(begin, begin + t.count);
  if (t.masked)
    for (std::int64_t lane = 0; lane < b.width; lane++) {
      const std::int64_t n = block.row(std::min(lane, b.lanes - 1));
      b.first[lane] = T(std::clamp<std::int64_t>(block.from(n) - begin, 0, key_tile));
      b.last[lane] = T(std::clamp<std::int64_t>(std::min(block.to(n), block.keys) - begin, 0, key_tile));
    }
  // A row of a cache of half precision, widened beside its neighbours.
  const Widen<T> widen = has_half_keys(block.s) ? PEFT_DISPATCH(widener<T>, DType::f16) : nullptr;
  const auto widen_half = [&](std::int64_t j) {
    widen(t.k + j * b.padded, reinterpret_cast<const std::byte*>(list.half_k(begin + j)), 0, b.dim);
    widen(t.v + j * b.padded, reinterpret_cast<const std::byte*>(list.half_v(begin + j)), 0, b.dim);
    std::fill(t.k + j * b.padded + b.dim, t.k + (j + 1) * b.padded, T(0)), std::fill(t.v + j * b.padded + b.dim, t.v + (j + 1) * b.padded, T(0));
  };
  if (in_place) {
    for (std::int64_t j = 0; j < t.count; j++) {
      const bool half = list.half(begin + j);
      if (half) widen_half(j);
      t.k_rows[j] = half ? t.k + j * b.padded : list.k(begin + j), t.v_rows[j] = half ? t.v + j * b.padded : list.v(begin + j);
    }
    // A head's part of a row is short, and the next one far away: no hardware prefetcher sees what comes.
    const auto fetch = [&](const auto* k, const auto* v) {
      for (std::int64_t c = 0; c < b.dim; c += 64 / std::int64_t(sizeof *k)) __builtin_prefetch(k + c, 0, 2), __builtin_prefetch(v + c, 0, 2);
    };
    for (std::int64_t j = begin + key_tile; j < std::min(begin + 2 * key_tile, block.last()); j++)
      if (list.half(j))
        fetch(list.half_k(j), list.half_v(j));
      else
        fetch(list.k(j), list.v(j));
    return;
  }
  const std::int64_t copied = std::min(t.count, there);
  for (std::int64_t j = 0; j < copied; j++) {
    if (list.half(begin + j)) {
      widen_half(j);
      continue;
    }
    PEFT_DISPATCH(pack_row<T>, t.k + j * b.padded, list.k(begin + j), T(1), b.dim, b.padded);
    PEFT_DISPATCH(pack_row<T>, t.v + j * b.padded, list.v(begin + j), T(1), b.dim, b.padded);
  }
  std::fill(t.k + copied * b.padded, t.k + t.count * b.padded, T(0));
  std::fill(t.v + copied * b.padded, t.v + t.count * b.padded, T(0));
}

/// A relative bias with its distances side by side, (heads, distances).
template <class T>
struct BiasRows {
  Tensor<T> rows;
  std::int64_t zero = 0;
  BiasRows(const RelativeBias<T>& bias) : zero(bias.zero) {
    if (!bias) return;
    rows = Tensor<T>({bias.table.cols, bias.table.rows});
    for (std::int64_t d = 0; d < bias.table.rows; d++)
      for (std::int64_t h = 0; h < bias.table.cols; h++) rows(h, d) = bias.table(d, h);
  }
  explicit operator bool() const { return bool(rows); }
  std::int64_t distances() const { return rows.cols(); }
  /// Of the key at index `key` for a lane, within the table where nobody sees the key.
  std::int64_t at(const Block<T>& block, std::int64_t lane, std::int64_t key) const {
    return std::clamp<std::int64_t>(key - block.row(lane) - block.offset + zero, 0, distances() - 1);
  }
};

/// The bias of a tile into p, whose elements (key, lane) lie key · down + lane · across.
template <class T>
void load_bias(KeyTile<T>& t, const QueryBlock<T>& b, const Block<T>& block, const BiasRows<T>& bias, std::int64_t begin, std::int64_t down,
               std::int64_t across) {
  t.biased = bool(bias);
  if (!bias) return;
  for (std::int64_t lane = 0; lane < b.lanes; lane++) {
    const T* const row = bias.rows.view().row(block.head(lane));
    for (std::int64_t j = 0; j < t.count; j++) b.p[j * down + lane * across] = row[bias.at(block, lane, begin + j)];
  }
  // Of lanes that are none, and of what fills a register up, nothing is used.
  if (across == 1)
    for (std::int64_t j = 0; j < t.count; j++) std::fill(b.p + j * down + b.lanes, b.p + j * down + b.width, T(0));
  else
    for (std::int64_t lane = 0; lane < b.lanes; lane++) std::fill(b.p + lane * across + t.count, b.p + (lane + 1) * across, T(0));
}

/// f(first key of a tile) for the tiles among keys begin … end that a block sees anything of, in ascending order. Whether there was one.
template <class T, class F>
bool each_tile(const Block<T>& block, std::int64_t begin, std::int64_t end, const F& f) {
  bool any = false;
  for (; begin < std::min(end, block.last()); begin += key_tile)
    if (block.sees_some(begin, begin + key_tile)) f(begin), any = true;
  return any;
}

}  // namespace peft::ops::detail
