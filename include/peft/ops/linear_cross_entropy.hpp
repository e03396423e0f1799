// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// −log softmax(x Wᵀ + b)[label] of each row, without a buffer of logits: tiles of the vocabulary, a running maximum and sum.
/// x (N, C), W (V, C), b (V) or null; labels (N) in 0 … V (rows to be ignored are dropped by the caller). loss, lse (N).
/// If dx (N, C) is wanted, it becomes d(Σ loss)/dx = softmax(x Wᵀ) W − W[label] in the same sweep: Σ_v e^(l_v − max) W_v is
/// accumulated beside the sum and rescaled with it, as attention does with its values, so no logit is computed twice.
template <Scalar T>
void linear_cross_entropy_forward(T* loss, T* lse, View<T> dx, View<const T> x, const WeightView& w, const T* bias, std::span<const std::int32_t> labels);

/// dW (V, C) = scale · (softmax − onehot)ᵀ x and db likewise, from the saved lse: a second sweep, only where the head trains.
template <Scalar T>
void linear_cross_entropy_backward_weight(GradSink<T> dw, GradSink<T> db, T scale, View<const T> x, const WeightView& w, const T* bias, std::span<const std::int32_t> labels,
                                          const T* lse);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/linear_cross_entropy.inl"
#endif
