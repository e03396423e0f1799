// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "peft/ops/attention.hpp"
#include "peft/ops/impl/rowwise.hpp"

#define PEFT_KERNELS "peft/ops/impl/attention_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops {

namespace detail {

// Keys are taken in tiles that begin at multiples of 64 of the key index, whoever asks: a query's sums have the same order in prefill, with
// a cache, and in any batch.
inline constexpr std::int64_t key_tile = 64, query_block = 48;

// One sequence's keys as one list: the prefix, then its own.
template <class T>
struct KeyList {
  const AttentionSequence<T>& s;
  std::int64_t head, dim;
  std::int64_t prefix() const { return s.prefix_k.data ? s.prefix_k.rows : 0; }
  std::int64_t size() const { return prefix() + s.k.rows; }
  const T* k(std::int64_t j) const { return (j < prefix() ? s.prefix_k.row(j) : s.k.row(j - prefix())) + head * dim; }
  const T* v(std::int64_t j) const { return (j < prefix() ? s.prefix_v.row(j) : s.v.row(j - prefix())) + head * dim; }
};

// Which keys a query sees: [first, last) and the context from 0.
struct Sight {
  std::int64_t first, last, context;
  bool sees(std::int64_t j) const { return j < context || (j >= first && j < last); }
};
inline Sight sight(const AttentionShape& shape, std::int64_t at, std::int64_t keys, std::int64_t context) {
  const std::int64_t last = shape.causal ? std::min(at + 1, keys) : keys;
  return {shape.window > 0 ? std::max<std::int64_t>(0, at + 1 - shape.window) : 0, last, std::min(context, keys)};
}

// Tiles [begin, end) that a run of queries at key indices from … to can see anything of.
inline std::int64_t tiles_end(const AttentionShape& shape, std::int64_t to, std::int64_t keys, std::int64_t context) {
  const std::int64_t last = std::max(shape.causal ? std::min(to + 1, keys) : keys, std::min(context, keys));
  return (last + key_tile - 1) / key_tile;
}
inline bool tile_visible(const AttentionShape& shape, std::int64_t tile, std::int64_t from, std::int64_t context) {
  return shape.window <= 0 || tile * key_tile < context || (tile + 1) * key_tile > from + 1 - shape.window;
}

// Rows of a tile one after the other (64, d), and transposed (d, 64); missing rows are zero.
template <class T>
struct TileMemory {
  Tensor<T> rows, transposed;
  explicit TileMemory(std::int64_t dim) : rows({key_tile, dim}), transposed({dim, key_tile}) {}
  template <class Row>
  void load(std::int64_t count, std::int64_t dim, const Row& row) {
    for (std::int64_t j = 0; j < key_tile; j++) {
      T* to = rows.data() + j * dim;
      if (j < count)
        std::copy_n(row(j), dim, to);
      else
        std::fill_n(to, dim, T(0));
    }
    for (std::int64_t j = 0; j < key_tile; j++)
      for (std::int64_t c = 0; c < dim; c++) transposed.data()[c * key_tile + j] = rows.data()[j * dim + c];
  }
};

// s (n, 64) = scale · q kᵀ, minus infinity where a query does not see
template <class T>
void scores(T* s, std::int64_t n, const View<const T>& q, std::int64_t begin, std::int64_t column, const TileMemory<T>& k, std::int64_t tile, std::int64_t at,
            const AttentionShape& shape, std::int64_t keys, std::int64_t context) {
  std::fill_n(s, n * key_tile, T(0));
  PEFT_DISPATCH(small_product<T>, n, key_tile, shape.head_dim, q.row(begin) + column, q.stride, std::int64_t(1), static_cast<const T*>(k.transposed.data()),
                key_tile, s, key_tile);
  const T scale = T(shape.scale);
  for (std::int64_t i = 0; i < n; i++) {
    T* row = s + i * key_tile;
    PEFT_DISPATCH(row_scale_add<T>, row, scale, static_cast<const T*>(row), T(0), key_tile);
    const Sight see = sight(shape, at + i, keys, context);
    if (see.first <= tile * key_tile && see.last >= (tile + 1) * key_tile) continue;
    for (std::int64_t j = 0; j < key_tile; j++)
      if (!see.sees(tile * key_tile + j)) row[j] = -std::numeric_limits<T>::infinity();
  }
}

inline void check_attention(const AttentionShape& shape, std::int64_t q_cols) {
  if (shape.heads < 1 || shape.kv_heads < 1 || shape.heads % shape.kv_heads || q_cols != shape.heads * shape.head_dim)
    throw ShapeError("attention", std::to_string(shape.heads) + " heads over " + std::to_string(shape.kv_heads) + " key heads of " +
                                      std::to_string(shape.head_dim) + ", q has " + std::to_string(q_cols) + " columns");
}

}  // namespace detail

template <Scalar T>
void attention_forward(View<T> out, View<T> lse, View<const T> q, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape) {
  detail::check_attention(shape, q.cols);
  const std::int64_t dim = shape.head_dim, group = shape.heads / shape.kv_heads;
  // A chunk is up to 256 queries of one sequence and one key head (all its query heads): the tile of keys is turned once for all of them.
  constexpr std::int64_t segment = 256;
  std::int64_t chunks = 0;
  for (const auto& s : sequences) chunks += (s.end - s.begin + segment - 1) / segment * shape.kv_heads;
  parallel_for(chunks, [&](std::int64_t chunk) {
    std::size_t which = 0;
    for (;; which++) {
      const std::int64_t here = (sequences[which].end - sequences[which].begin + segment - 1) / segment * shape.kv_heads;
      if (chunk < here) break;
      chunk -= here;
    }
    const AttentionSequence<T>& s = sequences[which];
    const std::int64_t kv_head = chunk % shape.kv_heads, first = s.begin + chunk / shape.kv_heads * segment, end = std::min(first + segment, s.end);
    const detail::KeyList<T> list{s, kv_head, dim};
    const std::int64_t keys = list.size(), offset = keys - s.end;  // query row n sits at key index n + offset
    detail::TileMemory<T> k(dim), v(dim);
    Tensor<T> memory({detail::query_block, detail::key_tile}), most({group, segment}, -std::numeric_limits<T>::infinity()), total({group, segment}, T(0));
    for (std::int64_t n = first; n < end; n++) std::fill_n(out.row(n) + kv_head * group * dim, group * dim, T(0));
    const std::int64_t tiles = detail::tiles_end(shape, end - 1 + offset, keys, s.context);
    for (std::int64_t tile = 0; tile < tiles; tile++) {
      if (!detail::tile_visible(shape, tile, first + offset, s.context)) continue;
      const std::int64_t count = std::min(detail::key_tile, keys - tile * detail::key_tile);
      k.load(count, dim, [&](std::int64_t j) { return list.k(tile * detail::key_tile + j); });
      for (std::int64_t j = 0; j < detail::key_tile; j++) {
        if (j < count)
          std::copy_n(list.v(tile * detail::key_tile + j), dim, v.rows.data() + j * dim);
        else
          std::fill_n(v.rows.data() + j * dim, dim, T(0));
      }
      for (std::int64_t g = 0; g < group; g++) {
        const std::int64_t column = (kv_head * group + g) * dim;
        for (std::int64_t begin = first; begin < end; begin += detail::query_block) {
          const std::int64_t n = std::min(detail::query_block, end - begin);
          if (tile >= detail::tiles_end(shape, begin + n - 1 + offset, keys, s.context)) continue;
          T* p = memory.data();
          detail::scores<T>(p, n, q, begin, column, k, tile, begin + offset, shape, keys, s.context);
          for (std::int64_t i = 0; i < n; i++) {
            T &m = most(g, begin - first + i), &sum = total(g, begin - first + i), *row = p + i * detail::key_tile;
            const T grown = std::max(m, PEFT_DISPATCH(row_max<T>, row, detail::key_tile));
            if (grown == -std::numeric_limits<T>::infinity()) {
              std::fill_n(row, detail::key_tile, T(0));
              continue;
            }
            if (grown != m) {
              const T shrink = std::exp(m - grown);
              T* o = out.row(begin + i) + column;
              PEFT_DISPATCH(row_scale_add<T>, o, shrink, static_cast<const T*>(o), T(0), dim);
              sum *= shrink, m = grown;
            }
            sum += PEFT_DISPATCH(row_exp<T>, row, static_cast<const T*>(row), grown, T(1), detail::key_tile);
          }
          PEFT_DISPATCH(small_product<T>, n, dim, detail::key_tile, static_cast<const T*>(p), detail::key_tile, std::int64_t(1),
                        static_cast<const T*>(v.rows.data()), dim, out.row(begin) + column, out.stride);
        }
      }
    }
    for (std::int64_t g = 0; g < group; g++)
      for (std::int64_t n = first; n < end; n++) {
        const T sum = total(g, n - first);
        T* o = out.row(n) + (kv_head * group + g) * dim;
        PEFT_DISPATCH(row_scale_add<T>, o, sum > 0 ? T(1) / sum : T(0), static_cast<const T*>(o), T(0), dim);
        lse(n, kv_head * group + g) = most(g, n - first) + std::log(sum);
      }
  });
}

template <Scalar T>
void attention_backward(GradSink<T> dq, std::span<const AttentionSequenceGrad<T>> grads, View<const T> dout, View<const T> out, View<const T> lse,
                        View<const T> q, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape) {
  detail::check_attention(shape, q.cols);
  const std::int64_t dim = shape.head_dim, group = shape.heads / shape.kv_heads, kv_cols = shape.kv_heads * dim;
  // Prefixes may be shared by sequences: their gradients are found apart and added in the order of the sequences.
  std::vector<Tensor<T>, PoolAllocator<Tensor<T>>> prefix_k(sequences.size()), prefix_v(sequences.size());
  for (std::size_t i = 0; i < sequences.size(); i++)
    if (grads[i].prefix_k || grads[i].prefix_v) {
      prefix_k[i] = Tensor<T>::zeros({sequences[i].prefix_k.rows, kv_cols});
      prefix_v[i] = Tensor<T>::zeros({sequences[i].prefix_k.rows, kv_cols});
    }
  parallel_for(std::int64_t(sequences.size()) * shape.kv_heads, [&](std::int64_t chunk) {
    const auto which = std::size_t(chunk / shape.kv_heads);
    const std::int64_t kv_head = chunk % shape.kv_heads;
    const AttentionSequence<T>& s = sequences[which];
    const AttentionSequenceGrad<T>& to = grads[which];
    const detail::KeyList<T> list{s, kv_head, dim};
    const std::int64_t keys = list.size(), prefix = list.prefix(), offset = keys - s.end, rows = s.end - s.begin;
    if (dq && !dq.accumulate)
      for (std::int64_t n = s.begin; n < s.end; n++) std::fill_n(dq.view.row(n) + kv_head * group * dim, group * dim, T(0));
    detail::TileMemory<T> k(dim), v(dim);
    Tensor<T> p_memory({detail::query_block, detail::key_tile}), ds_memory({detail::query_block, detail::key_tile}), dk({detail::key_tile, dim}),
        dv({detail::key_tile, dim});
    Tensor<T> delta({group, rows});  // Σ dout ∘ out
    for (std::int64_t g = 0; g < group; g++)
      for (std::int64_t n = 0; n < rows; n++) {
        const std::int64_t column = (kv_head * group + g) * dim;
        delta(g, n) = PEFT_DISPATCH(row_dot<T>, dout.row(s.begin + n) + column, out.row(s.begin + n) + column, dim);
      }
    const bool wants_keys = to.k || to.v || to.prefix_k || to.prefix_v;
    for (std::int64_t tile = 0; tile * detail::key_tile < keys; tile++) {
      const std::int64_t start = tile * detail::key_tile, count = std::min(detail::key_tile, keys - start);
      k.load(count, dim, [&](std::int64_t j) { return list.k(start + j); });
      v.load(count, dim, [&](std::int64_t j) { return list.v(start + j); });
      dk.fill(T(0)), dv.fill(T(0));
      for (std::int64_t g = 0; g < group; g++) {
        const std::int64_t column = (kv_head * group + g) * dim;
        for (std::int64_t begin = s.begin; begin < s.end; begin += detail::query_block) {
          const std::int64_t n = std::min(detail::query_block, s.end - begin);
          if (tile >= detail::tiles_end(shape, begin + n - 1 + offset, keys, s.context) || !detail::tile_visible(shape, tile, begin + offset, s.context))
            continue;
          T *p = p_memory.data(), *ds = ds_memory.data();
          detail::scores<T>(p, n, q, begin, column, k, tile, begin + offset, shape, keys, s.context);
          for (std::int64_t i = 0; i < n; i++) PEFT_DISPATCH(row_exp<T>, p + i * detail::key_tile, static_cast<const T*>(p + i * detail::key_tile), lse(begin + i, kv_head * group + g), T(1), detail::key_tile);
          std::fill_n(ds, n * detail::key_tile, T(0));
          PEFT_DISPATCH(small_product<T>, n, detail::key_tile, dim, dout.row(begin) + column, dout.stride, std::int64_t(1),
                        static_cast<const T*>(v.transposed.data()), detail::key_tile, ds, detail::key_tile);
          for (std::int64_t i = 0; i < n; i++) {
            const T d = delta(g, begin - s.begin + i);
            T *ds_row = ds + i * detail::key_tile, *p_row = p + i * detail::key_tile;
            for (std::int64_t j = 0; j < detail::key_tile; j++) ds_row[j] = p_row[j] * (ds_row[j] - d) * T(shape.scale);
          }
          if (dq)
            PEFT_DISPATCH(small_product<T>, n, dim, detail::key_tile, static_cast<const T*>(ds), detail::key_tile, std::int64_t(1),
                          static_cast<const T*>(k.rows.data()), dim, dq.view.row(begin) + column, dq.view.stride);
          if (!wants_keys) continue;
          PEFT_DISPATCH(small_product<T>, detail::key_tile, dim, n, static_cast<const T*>(ds), std::int64_t(1), detail::key_tile, q.row(begin) + column,
                        q.stride, dk.data(), dim);
          PEFT_DISPATCH(small_product<T>, detail::key_tile, dim, n, static_cast<const T*>(p), std::int64_t(1), detail::key_tile, dout.row(begin) + column,
                        dout.stride, dv.data(), dim);
        }
      }
      for (std::int64_t j = 0; j < count; j++) {
        const std::int64_t key = start + j;
        const auto put = [&](const GradSink<T>& sink, const Tensor<T>& apart, const Tensor<T>& from) {
          T* row = key < prefix ? (apart ? apart.data() + key * kv_cols : nullptr) : (sink ? sink.view.row(key - prefix) : nullptr);
          if (!row) return;
          row += kv_head * dim;
          const bool add = key >= prefix && sink.accumulate;
          for (std::int64_t c = 0; c < dim; c++) row[c] = (add ? row[c] : T(0)) + from.data()[j * dim + c];
        };
        put(to.k, prefix_k[which], dk);
        put(to.v, prefix_v[which], dv);
      }
    }
  });
  for (std::size_t i = 0; i < sequences.size(); i++) {
    const auto add = [](const GradSink<T>& sink, const Tensor<T>& part) {
      if (!sink) return;
      for (std::int64_t r = 0; r < part.rows(); r++)
        for (std::int64_t c = 0; c < part.cols(); c++) sink.view(r, c) = (sink.accumulate ? sink.view(r, c) : T(0)) + part(r, c);
    };
    if (prefix_k[i]) add(grads[i].prefix_k, prefix_k[i]), add(grads[i].prefix_v, prefix_v[i]);
  }
}

}  // namespace peft::ops
