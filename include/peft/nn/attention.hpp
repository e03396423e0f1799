// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <optional>

#include "peft/autograd/functions/attention.hpp"
#include "peft/autograd/functions/elementwise.hpp"
#include "peft/nn/linear.hpp"
#include "peft/nn/norm.hpp"
#include "peft/nn/rotary.hpp"

namespace peft {

/// Attention between the projections: rotated q, k, v → context. A site of its own, so that an adapter may add to the context.
template <Scalar T>
struct AttentionCore {
  using Scalar_ = T;
  struct Input {
    Variable<T> q, k, v;
    AttentionSpans<T> spans;
    Variable<T> relative_bias = {};  // (distances, heads), by the distance of key and query; relative_zero: the row of distance 0
    std::int64_t relative_zero = 0;
  };
  using Output = Variable<T>;
  ops::AttentionShape shape{};
  std::string path{};
  AdapterSlot<AttentionCore> adapters{};

  Variable<T> forward(const Input& in) const { return attention<T>(in.q, in.k, in.v, in.spans, shape, in.relative_bias, in.relative_zero); }
  Variable<T> operator()(const Input& in) const { return adapters(*this, in); }
  AttentionCore dense() const { throw AdapterError("merge", "an adapter on attention itself has no weight to be merged into"); }
  static void describe(auto&, auto&&) {}
};

/// Grouped-query attention. What an architecture lacks (norms of the heads, rotary positions) is absent here.
///
///     x ── q_proj ── (q_norm) ── (rope) ──┐
///     x ── k_proj ── (k_norm) ── (rope) ──┤ core ── o_proj ── y
///     x ── v_proj ────────────────────────┘
///
/// q, k and v are three Linears, or one whose rows are q's, then k's, then v's, of all heads or (qkv_by_head) of each head. Cross-attention has its
/// keys and values from the rows of the Pass's source, the encoder's output, or, where there are caches, from what these know of it.
template <Scalar T>
struct Attention {
  using Scalar_ = T;
  using Input = Variable<T>;
  using Output = Variable<T>;
  Linear<T> q_proj, k_proj, v_proj, o_proj;
  std::optional<Linear<T>> qkv_proj;      // in place of the three
  std::optional<Norm<T>> q_norm, k_norm;  // of each head, in front of the rotation
  AttentionCore<T> core;
  std::shared_ptr<Rotary<T>> rotary;
  bool qkv_by_head = false;
  std::vector<double> alibi_slopes;  // one a head: slope · (key − query) is added to a score (arXiv:2108.12409)
  bool cross = false;                // keys and values are the source's
  std::int64_t layer = 0;            // which layer of a cache or a prefix is its own
  std::string path{};
  AdapterSlot<Attention> adapters{};

  /// x (N, hidden) → (N, hidden). Reads the layout, the caches and the prefixes from the Pass.
  Variable<T> forward(const Variable<T>& x) const {
    const Pass<T>* pass = Pass<T>::current();
    if (!pass || !pass->sequences) throw Error("attention", "no Pass: a forward begins with PassScope, which says where sequences begin and end");
    const Sequences& sequences = *pass->sequences;
    if (cross) return o_proj(core(across(x, *pass)));
    auto [q, k, v] = projections(x);
    if (q_norm) q = (*q_norm)(q);
    if (k_norm) k = (*k_norm)(k);
    if (rotary) {
      const RotaryTable<T> table = rotary->table(sequences.last_position() + 1);
      const bool halves = table.head_dim < core.shape.head_dim;
      q = turned(std::move(q), sequences, table, halves);
      k = turned(std::move(k), sequences, table, halves);
    }
    typename AttentionCore<T>::Input in{std::move(q), std::move(k), std::move(v), {}, pass->relative_bias, pass->relative_zero};
    in.spans.reserve(sequences.size());
    for (std::size_t i = 0; i < sequences.size(); i++) {
      const Sequence& s = sequences[i];
      AttentionSpan<T> span;
      span.begin = s.begin, span.end = s.end, span.context = s.context;
      if (s.behind >= 0) {
        if (!pass->past.empty() || !pass->caches.empty())
          throw Error("attention", "sequence " + std::to_string(i) + " is behind another one; that goes with neither caches nor prefixes");
        span.shared_begin = sequences[std::size_t(s.behind)].begin, span.shared_end = sequences[std::size_t(s.behind)].end;
      }
      if (!pass->past.empty())
        if (const auto& past = pass->past[std::size_t(s.active)]) {
          span.prefix_k = past->k[std::size_t(layer)], span.prefix_v = past->v[std::size_t(layer)];
          if (span.context > 0) span.context += span.prefix_k.rows();
        }
      if (!pass->caches.empty()) {
        KvCache<T>& cache = *pass->caches[i];
        cache.append(layer, in.k.value().view().row_range(s.begin, s.end), in.v.value().view().row_range(s.begin, s.end));
        const KvCache<T>* const base = cache.forgotten(layer) > 0 ? nullptr : cache.base();
        // What stands in front of forgotten rows, no query sees either.
        if (cache.forgotten(layer) > 0 || (base && base->forgotten(layer) > 0)) span.prefix_k = span.prefix_v = {};
        if (base) read(*base, cache.base_rows(), span.past_k, span.past_v, span.half_past_k, span.half_past_v);
        read(cache, cache.own_rows() + s.length(), span.cache_k, span.cache_v, span.half_k, span.half_v);
      }
      in.spans.push_back(std::move(span));
    }
    if (!alibi_slopes.empty()) in.relative_bias = distances(in.spans), in.relative_zero = in.relative_bias.rows() - 1;
    return o_proj(core(in));
  }
  Variable<T> operator()(const Variable<T>& x) const { return adapters(*this, x); }

  struct KeysAndValues {
    Variable<T> k, v;
  };
  /// Cross-attention's keys and values (source rows, kv_heads · head_dim) of the pass's source.
  KeysAndValues of_source(const Pass<T>& pass) const {
    if (!pass.source) throw Error("attention", "cross-attention without a source: Transformer::encode puts it into the Pass");
    const Pass<T> at_source = pass.at_source();
    const PassScope<T> scope(at_source);
    return {k_proj(pass.source), v_proj(pass.source)};
  }

  Attention dense() const { throw AdapterError("merge", "an adapter on a whole sublayer has no weight to be merged into"); }

  static constexpr bool mixes_rows = true;
  static Input rows(const Input& x, std::int64_t begin, std::int64_t end) { return peft::rows(x, begin, end); }
  static void describe(auto& self, auto&& visit) {
    if (self.qkv_proj) {
      visit("qkv_proj", *self.qkv_proj);
    } else {
      visit("q_proj", self.q_proj);
      visit("k_proj", self.k_proj);
      visit("v_proj", self.v_proj);
    }
    visit("o_proj", self.o_proj);
    if (self.q_norm) visit("q_norm", *self.q_norm);
    if (self.k_norm) visit("k_norm", *self.k_norm);
    visit("core", self.core);
  }

 private:
  // slope · (key − query), from the longest distance on up to 0; all that a query sees stands ahead of it.
  Variable<T> distances(const AttentionSpans<T>& spans) const {
    std::int64_t longest = 1;
    for (const AttentionSpan<T>& s : spans) {
      const std::int64_t cached = s.half_k ? s.half_k.rows() : s.cache_k ? s.cache_k.rows() : s.end - s.begin;
      const std::int64_t past = s.half_past_k ? s.half_past_k.rows() : s.past_k ? s.past_k.rows() : 0;
      longest = std::max(longest, cached + past + (s.prefix_k ? s.prefix_k.rows() : 0) + s.shared_end - s.shared_begin);
    }
    Tensor<T> table({longest, core.shape.heads});
    for (std::int64_t i = 0; i < longest; i++)
      for (std::int64_t h = 0; h < core.shape.heads; h++) table(i, h) = T(alibi_slopes[std::size_t(h)] * double(i - longest + 1));
    return Variable<T>(std::move(table));
  }
  // By the rows' positions; of positions in two dimensions, the first half of each head by the one and the second by the other.
  static Variable<T> turned(Variable<T> x, const Sequences& sequences, const RotaryTable<T>& table, bool halves) {
    if (!halves) return rope(std::move(x), sequences.positions(), table);
    if (!sequences.block_positions()) throw Error("attention", "positions in two dimensions, and no blank in the sequences: Transformer::with_blanks finds it");
    const Shape shape = x.shape();
    const std::int64_t of_a_row = x.cols() / table.head_dim;
    const auto places = std::allocate_shared<Ids>(PoolAllocator<Ids>());
    places->reserve(std::size_t(x.rows() * of_a_row));
    for (std::int64_t n = 0; n < x.rows(); n++)
      for (std::int64_t i = 0; i < of_a_row; i++) places->push_back((*(i % 2 ? sequences.block_positions() : sequences.positions()))[std::size_t(n)]);
    return reshape(rope(reshape(std::move(x), Shape{shape[0] * of_a_row, table.head_dim}), places, table), shape);
  }
  struct Projections {
    Variable<T> q, k, v;
  };
  // The first keys and values that a cache holds itself.
  void read(const KvCache<T>& cache, std::int64_t keys, Tensor<T>& k, Tensor<T>& v, Tensor<Float16>& half_k, Tensor<Float16>& half_v) const {
    if (cache.dtype() == DType::f16)
      half_k = cache.half_keys(layer, keys), half_v = cache.half_values(layer, keys);
    else
      k = cache.keys(layer, keys), v = cache.values(layer, keys);
  }
  typename AttentionCore<T>::Input across(const Variable<T>& x, const Pass<T>& pass) const {
    const Sequences& sequences = *pass.sequences;
    const bool cached = !pass.caches.empty();
    typename AttentionCore<T>::Input in;
    if (!cached) {
      KeysAndValues all = of_source(pass);
      in.k = std::move(all.k), in.v = std::move(all.v);
      if (pass.source_sequences->size() != sequences.size())
        throw ShapeError("attention",
                         std::to_string(sequences.size()) + " sequences are decoded from " + std::to_string(pass.source_sequences->size()) + " sources");
    }
    in.q = q_proj(x);
    in.spans.reserve(sequences.size());
    for (std::size_t i = 0; i < sequences.size(); i++) {
      AttentionSpan<T> span;
      span.begin = sequences[i].begin, span.end = sequences[i].end;
      if (cached) {
        const auto& source = pass.caches[i]->source;
        if (!source) throw Error("attention", "cross-attention with a cache that knows no source: Transformer::remember_source makes it");
        read(*source, source->rows(), span.cache_k, span.cache_v, span.half_k, span.half_v);
      } else {
        span.key_begin = (*pass.source_sequences)[i].begin, span.key_end = (*pass.source_sequences)[i].end;
      }
      in.spans.push_back(std::move(span));
    }
    return in;
  }
  Projections projections(const Variable<T>& x) const {
    if (!qkv_proj) return {q_proj(x), k_proj(x), v_proj(x)};
    const Variable<T> all = (*qkv_proj)(x);
    if (qkv_by_head) {
      const std::int64_t n = core.shape.heads, d = core.shape.head_dim;
      const Variable<T> heads = reshape(all, Shape{x.rows() * n, 3 * d});
      const auto part = [&](std::int64_t i) { return reshape(columns(heads, i * d, (i + 1) * d), Shape{x.rows(), n * d}); };
      return {part(0), part(1), part(2)};
    }
    const std::int64_t q = core.shape.heads * core.shape.head_dim, kv = core.shape.kv_heads * core.shape.head_dim;
    return {columns(all, 0, q), columns(all, q, q + kv), columns(all, q + kv, q + 2 * kv)};
  }
};

}  // namespace peft
