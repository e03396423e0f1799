// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "peft/core/float16.hpp"
#include "peft/ops/weight_view.hpp"

namespace peft::ops {

struct AttentionShape {
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;  // kv_heads divides heads: query head h reads key head h / (heads / kv_heads)
  double scale = 0;                                    // of the scores, usually 1/√head_dim
  bool causal = true;
  std::int64_t window = 0;  // > 0: a query sees at most this many keys, itself included (prefix columns count);
                            // without causal, as many on either side
  double softcap = 0;       // c > 0: a scaled score s is c tanh(s / c) (Gemma 2, arXiv:2408.00118); not besides a relative bias
};

/// One sequence of a packed batch: rows begin … end of q and of the output. Its keys are the prefix's rows, then the past's, then k's. The queries are
/// the last ones: query i sits at key index prefix + past + k.rows − (end − begin) + i; there may be more of them than keys where each sees all. `context`
/// keys from the start are visible to every query.
template <class T>
struct AttentionSequence {
  std::int64_t begin = 0, end = 0;
  View<const T> k, v;                  // (keys, kv_heads · head_dim): rows of the packed batch, or of a cache
  View<const Float16> k_half, v_half;  // in their place: a cache of half precision, widened tile by tile; forward only
  View<const T> prefix_k, prefix_v;    // (prefix, kv_heads · head_dim), may be empty
  std::int64_t context = 0;
  View<const T> past_k = {}, past_v = {};                  // (past, kv_heads · head_dim), may be empty: of a cache that several sequences read; forward only
  View<const Float16> past_k_half = {}, past_v_half = {};  // in their place, of half precision
  std::int64_t own_keys() const { return k_half ? k_half.rows : k.rows; }
  std::int64_t past_keys() const { return past_k_half ? past_k_half.rows : past_k ? past_k.rows : 0; }
};

/// Added to the scaled score of query i and key j, by their distance and head: table(zero + j − i, head), counted in key indices (T5's
/// relative positions, arXiv:1910.10683; ALiBi, arXiv:2108.12409). Empty: nothing is added.
template <class T>
struct RelativeBias {
  View<const T> table = {};  // (distances, heads); every distance of a query to a key that it sees must have a row
  std::int64_t zero = 0;     // the row of j = i
  explicit operator bool() const { return bool(table); }
};

/// Where the gradients of one sequence's keys go. A sink that is first is written whole.
template <class T>
struct AttentionSequenceGrad {
  GradSink<T> k, v, prefix_k, prefix_v;
};

/// out (N, heads · head_dim) = softmax(scale · q kᵀ + mask) v by tiles with a running maximum (Dao et al. 2022, arXiv:2205.14135);
/// lse (N, heads): log Σ exp of each row's scores, what backward needs saved. No T × T tensor; tiles above the diagonal are skipped.
template <Scalar T>
void attention_forward(View<T> out, View<T> lse, View<const T> q, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape,
                       const RelativeBias<T>& bias = {});

/// p = exp(s − lse);  dv = pᵀ dout;  ds = p ∘ (dout vᵀ − Σ dout ∘ out);  dq = scale · ds k;  dk = scale · dsᵀ q;  behind a cap ds is times 1 − (s / c)².
/// grads has one entry a sequence, in the same order. Prefixes that several sequences share are added to in sequence order, after all k and v:
/// a prefix may be rows of another sequence's. dbias, as the table: Σ ds over the pairs at each distance.
template <Scalar T>
void attention_backward(GradSink<T> dq, std::span<const AttentionSequenceGrad<T>> grads, View<const T> dout, View<const T> out, View<const T> lse,
                        View<const T> q, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape, const RelativeBias<T>& bias = {},
                        GradSink<T> dbias = {});

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/attention.inl"
#endif
