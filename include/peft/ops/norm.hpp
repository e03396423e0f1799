// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// y = x̂ ∘ w,  x̂ = x · inv_rms,  inv_rms = 1/√(mean(x²) + ε) over the last axis     (Zhang & Sennrich 2019, arXiv:1910.07467)
/// x, y (N, C); w (C); inv_rms (N), the only thing backward needs saved. offset: Gemma's weight is stored as w - 1.
template <Scalar T>
void rms_norm_forward(View<T> y, T* inv_rms, View<const T> x, const T* w, T eps, T offset = 0);
/// dx = inv_rms ∘ (g − x̂ · mean(g ∘ x̂)),  g = w ∘ dy;   dw = Σ_n dy ∘ x̂
template <Scalar T>
void rms_norm_backward(GradSink<T> dx, GradSink<T> dw, View<const T> dy, View<const T> x, const T* w, const T* inv_rms, T offset = 0);

/// y = x̂ ∘ w + b,  x̂ = (x − mean) · inv_std over the last axis     (Ba et al. 2016, arXiv:1607.06450)
/// statistics (N, 2): mean and inv_std of each row. b may be null.
template <Scalar T>
void layer_norm_forward(View<T> y, View<T> statistics, View<const T> x, const T* w, const T* b, T eps);
/// dx = inv_std ∘ (g − mean(g) − x̂ · mean(g ∘ x̂)),  g = w ∘ dy;   dw = Σ_n dy ∘ x̂;   db = Σ_n dy
template <Scalar T>
void layer_norm_backward(GradSink<T> dx, GradSink<T> dw, GradSink<T> db, View<const T> dy, View<const T> x, const T* w, View<const T> statistics);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/norm.inl"
#endif
