// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// W ≈ s · B A by the r largest singular values: W = U S Vᵀ, B = U √(S/s), A = √(S/s) Vᵀ.  B (out, r), A (r, in), W (out, in). In double.
template <Scalar T>
void split_by_svd(View<T> B, View<T> A, View<const T> W, double s);
/// The first r columns of Q and rows of R, W = Q R by Householder reflections as LAPACK makes them.
template <Scalar T>
void split_by_qr(View<T> B, View<T> A, View<const T> W);
/// P = (A Aᵀ + δ I)⁺ (r, r) for A (r, in), computed in double. What is not above r · ε_T times the largest eigenvalue counts as 0, as in torch.linalg.pinv.
template <Scalar T>
void inverse_gram(View<T> P, View<const T> A, double delta);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/factorise.inl"
#endif
