// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/ops/activation_kind.hpp"
#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// y = f(x); y may be x.
template <Scalar T>
void activation_forward(View<T> y, View<const T> x, Activation f);
/// dx = dy ∘ f′(x)
template <Scalar T>
void activation_backward(GradSink<T> dx, View<const T> dy, View<const T> x, Activation f);

/// y = f(gate) ∘ up     (SwiGLU, GeGLU: Shazeer 2020, arXiv:2002.05202); y may be gate or up.
template <Scalar T>
void gated_forward(View<T> y, View<const T> gate, View<const T> up, Activation f);
/// dgate = dy ∘ up ∘ f′(gate);   dup = dy ∘ f(gate). A sink may be the memory of dy, gate or up (each element is read before it is written).
template <Scalar T>
void gated_backward(GradSink<T> dgate, GradSink<T> dup, View<const T> dy, View<const T> gate, View<const T> up, Activation f);

/// y = c tanh(x / c): what grows without bound stays between −c and c (Gemma 2, arXiv:2408.00118); y may be x.
template <Scalar T>
void softcap_forward(View<T> y, View<const T> x, double c);
/// dx = dy ∘ (1 − (y / c)²), from the output; dx may be dy.
template <Scalar T>
void softcap_backward(View<T> dx, View<const T> dy, View<const T> y, double c);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/activation.inl"
#endif
