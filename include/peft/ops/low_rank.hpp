// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// y (N, out) += s · xa Bᵀ,  xa (N, r) = x Aᵀ, kept for backward.     x (N, in), A (r, in), B (out, r)     (LoRA, arXiv:2106.09685)
template <Scalar T>
void low_rank_forward(View<T> y, View<T> xa, View<const T> x, View<const T> A, View<const T> B, T s);
/// g = s · dy B (N, r);   dB = s · dyᵀ xa;   dA = gᵀ x;   dx = g A
template <Scalar T>
void low_rank_backward(GradSink<T> dx, GradSink<T> dA, GradSink<T> dB, View<const T> dy, View<const T> x, View<const T> xa, View<const T> A, View<const T> B,
                       T s);

/// The same without dx:  g (N, r), dB, dA. Whoever forms dx otherwise adds g A to it (Epilogue).
template <Scalar T>
void low_rank_gradients(View<T> g, GradSink<T> dA, GradSink<T> dB, View<const T> dy, View<const T> x, View<const T> xa, View<const T> B, T s);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/low_rank.inl"
#endif
