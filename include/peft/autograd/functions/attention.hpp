// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "peft/autograd/tape.hpp"
#include "peft/ops/attention.hpp"

namespace peft {

/// One sequence of a packed batch as attention sees it: rows begin … end of q. Its keys and values are the prefix's rows, or those of an
/// earlier sequence that it goes on from, then either the same rows of k and v, or a cache's, which already holds them, behind those of the cache that this
/// one continues (inference only).
template <Scalar T>
struct AttentionSpan {
  std::int64_t begin = 0, end = 0;
  std::int64_t key_begin = -1, key_end = -1;      // rows of k and v, where these are of another batch than q (cross-attention)
  Variable<T> prefix_k, prefix_v;                 // (prefix, kv_heads · head_dim), may be empty
  std::int64_t shared_begin = 0, shared_end = 0;  // rows of k and v in place of a prefix
  Tensor<T> cache_k, cache_v;                     // (keys so far, kv_heads · head_dim), may be empty
  Tensor<Float16> half_k, half_v;                 // in their place, a cache of half precision
  Tensor<T> past_k, past_v;                       // in front of a cache's: those that it shares with others
  Tensor<Float16> half_past_k, half_past_v;       // in their place, of half precision
  std::int64_t context = 0;                       // keys that every query sees, from the first
  // Its own rows of k and v.
  View<const T> own(View<const T> all) const { return key_begin < 0 ? all.row_range(begin, end) : all.row_range(key_begin, key_end); }
  View<T> own(View<T> all) const { return key_begin < 0 ? all.row_range(begin, end) : all.row_range(key_begin, key_end); }
};
template <Scalar T>
using AttentionSpans = std::vector<AttentionSpan<T>, PoolAllocator<AttentionSpan<T>>>;

namespace detail {
template <Scalar T>
using AttentionSequences = std::vector<ops::AttentionSequence<T>, PoolAllocator<ops::AttentionSequence<T>>>;

template <Scalar T>
AttentionSequences<T> attention_sequences(const AttentionSpans<T>& spans, const Tensor<T>& k, const Tensor<T>& v) {
  AttentionSequences<T> all;
  all.reserve(spans.size());
  for (const auto& s : spans) {
    ops::AttentionSequence<T> one;
    one.begin = s.begin, one.end = s.end, one.context = s.context;
    if (s.half_k) {
      one.k_half = s.half_k.view(), one.v_half = s.half_v.view();
    } else {
      one.k = s.cache_k ? View<const T>(s.cache_k.view()) : s.own(View<const T>(k.view()));
      one.v = s.cache_v ? View<const T>(s.cache_v.view()) : s.own(View<const T>(v.view()));
    }
    if (s.half_past_k) one.past_k_half = s.half_past_k.view(), one.past_v_half = s.half_past_v.view();
    if (s.past_k) one.past_k = s.past_k.view(), one.past_v = s.past_v.view();
    if (s.prefix_k) one.prefix_k = s.prefix_k.view(), one.prefix_v = s.prefix_v.view();
    if (s.shared_end > s.shared_begin)
      one.prefix_k = k.view().row_range(s.shared_begin, s.shared_end), one.prefix_v = v.view().row_range(s.shared_begin, s.shared_end);
    all.push_back(one);
  }
  return all;
}
}  // namespace detail

/// softmax(scale · q kᵀ + bias + mask) v for every sequence; q (N, heads · head_dim), k, v (N, kv_heads · head_dim). `bias` (distances,
/// heads), if there is one, by the distance of key and query, `zero` the row of distance 0. Keeps q, k, v, the output and one number a
/// row and head.
template <Scalar T>
Variable<T> attention(const Variable<T>& q, const Variable<T>& k, const Variable<T>& v, AttentionSpans<T> spans, const ops::AttentionShape& shape,
                      const Variable<T>& bias = {}, std::int64_t zero = 0) {
  Tensor<T> y({q.rows(), shape.heads * shape.head_dim}), lse({q.rows(), shape.heads});
  const auto sequences = detail::attention_sequences<T>(spans, k.value(), v.value());
  const auto relative = [](const Variable<T>& table, std::int64_t row) { return table ? ops::RelativeBias<T>{table.view(), row} : ops::RelativeBias<T>(); };
  ops::attention_forward<T>(y.view(), lse.view(), q.view(), sequences, shape, relative(bias, zero));
  bool wanted = q.needs_grad() || k.needs_grad() || v.needs_grad() || bias.needs_grad();
  for (const auto& s : spans) wanted = wanted || (s.prefix_k && (s.prefix_k.needs_grad() || s.prefix_v.needs_grad()));
  if (!recording(wanted)) return Variable<T>(std::move(y));
  return recorded(y, true, [q, k, v, y, lse, spans = std::move(spans), shape, bias, zero, relative](Tensor<T> dy) {
    const auto again = detail::attention_sequences<T>(spans, k.value(), v.value());
    // The three are written at the same time: where one variable stands in two places, each gets memory of its own.
    Tensor<T> dq_apart, dv_apart;
    if (q.gradient().is(k.gradient()) || q.gradient().is(v.gradient())) dq_apart = Tensor<T>(q.shape());
    if (v.gradient().is(k.gradient())) dv_apart = Tensor<T>(v.shape());
    const ops::GradSink<T> dk = k.gradient().sink(), dv = dv_apart ? ops::GradSink<T>{dv_apart.view(), false} : v.gradient().sink();
    const ops::GradSink<T> dq = dq_apart ? ops::GradSink<T>{dq_apart.view(), false} : q.gradient().sink();
    std::vector<ops::AttentionSequenceGrad<T>, PoolAllocator<ops::AttentionSequenceGrad<T>>> grads(spans.size());
    for (std::size_t i = 0; i < spans.size(); i++) {
      const auto& s = spans[i];
      if (dk && !s.cache_k && !s.half_k) grads[i].k = {s.own(dk.view), dk.accumulate};
      if (dv && !s.cache_v && !s.half_v) grads[i].v = {s.own(dv.view), dv.accumulate};
      if (s.prefix_k) grads[i].prefix_k = s.prefix_k.gradient().sink(), grads[i].prefix_v = s.prefix_v.gradient().sink();
      // Added to what the rows' own sequence has left there: attention_backward writes prefixes last.
      if (dk && s.shared_end > s.shared_begin) grads[i].prefix_k = {dk.view.row_range(s.shared_begin, s.shared_end), true};
      if (dv && s.shared_end > s.shared_begin) grads[i].prefix_v = {dv.view.row_range(s.shared_begin, s.shared_end), true};
    }
    ops::attention_backward<T>(dq, grads, dy.view(), y.view(), lse.view(), q.view(), again, shape, relative(bias, zero), bias.gradient().sink());
    if (dq_apart) q.gradient().add(std::move(dq_apart));
    if (dv_apart) v.gradient().add(std::move(dv_apart));
  });
}

}  // namespace peft
