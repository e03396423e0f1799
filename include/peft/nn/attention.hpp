// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <optional>

#include "peft/autograd/functions/attention.hpp"
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
  };
  using Output = Variable<T>;
  ops::AttentionShape shape{};
  std::string path{};
  AdapterSlot<AttentionCore> adapters{};

  Variable<T> forward(const Input& in) const { return attention<T>(in.q, in.k, in.v, in.spans, shape); }
  Variable<T> operator()(const Input& in) const { return adapters(*this, in); }
  AttentionCore dense() const { throw AdapterError("merge", "an adapter on attention itself has no weight to be merged into"); }
  static void describe(auto&, auto&&) {}
};

/// Grouped-query self-attention with rotary positions.
///
///     x ── q_proj ── (norm) ── rope ──┐
///     x ── k_proj ── (norm) ── rope ──┤ core ── o_proj ── y
///     x ── v_proj ────────────────────┘
template <Scalar T>
struct Attention {
  using Scalar_ = T;
  using Input = Variable<T>;
  using Output = Variable<T>;
  Linear<T> q_proj, k_proj, v_proj, o_proj;
  AttentionCore<T> core;
  std::shared_ptr<Rotary<T>> rotary;
  std::int64_t layer = 0;  // which layer of a cache or a prefix is its own
  std::string path{};
  AdapterSlot<Attention> adapters{};

  /// x (N, hidden) → (N, hidden). Reads the layout, the caches and the prefixes from the Pass.
  Variable<T> forward(const Variable<T>& x) const {
    const Pass<T>* pass = Pass<T>::current();
    if (!pass || !pass->sequences) throw Error("attention", "no Pass: a forward begins with PassScope, which says where sequences begin and end");
    const Sequences& sequences = *pass->sequences;
    Variable<T> q = q_proj(x), k = k_proj(x), v = v_proj(x);
    if (rotary) {
      const RotaryTable<T> table = rotary->table(sequences.last_position() + 1);
      q = rope(std::move(q), sequences.positions(), table);
      k = rope(std::move(k), sequences.positions(), table);
    }
    typename AttentionCore<T>::Input in{std::move(q), std::move(k), std::move(v), {}};
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
        if (const auto& past = pass->past[std::size_t(s.active)]) span.prefix_k = past->k[std::size_t(layer)], span.prefix_v = past->v[std::size_t(layer)];
      if (!pass->caches.empty()) {
        KvCache<T>& cache = *pass->caches[i];
        cache.append(layer, in.k.value().view().row_range(s.begin, s.end), in.v.value().view().row_range(s.begin, s.end));
        const std::int64_t keys = cache.rows() + s.length();
        span.cache_k = cache.keys(layer, keys), span.cache_v = cache.values(layer, keys);
      }
      in.spans.push_back(std::move(span));
    }
    return o_proj(core(in));
  }
  Variable<T> operator()(const Variable<T>& x) const { return adapters(*this, x); }
  Attention dense() const { throw AdapterError("merge", "an adapter on a whole sublayer has no weight to be merged into"); }

  static void describe(auto& self, auto&& visit) {
    visit("q_proj", self.q_proj);
    visit("k_proj", self.k_proj);
    visit("v_proj", self.v_proj);
    visit("o_proj", self.o_proj);
    visit("core", self.core);
  }
};

}  // namespace peft
