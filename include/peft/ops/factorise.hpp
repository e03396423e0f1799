// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "peft/core/tensor.hpp"
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

/// How much of a matrix is kept: its r largest singular values, or as few as hold this share of Σ σ² (0 < energy ≤ 1).
struct KeptRank {
  std::int64_t r = 0;
  double energy = 0;  // where r is 0
};
/// W ≈ B A, the nearest of its rank: B = U √S, A = √S Vᵀ.
struct LowRank {
  Tensor<double> B, A;                // (out, r), (r, in)
  std::vector<double> singular = {};  // the r largest, in order
  double lost = 0;                    // ‖W − B A‖ / ‖W‖; 0 for W = 0
};
/// The eigenvectors of W Wᵀ or Wᵀ W, whichever is smaller, give it: all of them, or, where a few are wanted of many, those that a block of vectors
/// turns to while it is multiplied (Halko, Martinsson, Tropp 2011, arXiv:0909.4061), until what it holds no longer grows. Singular values below 1e-8 of the
/// largest are not told apart. r is at least 1. Throws ConfigError for an r that W has not, or an energy out of range.
LowRank low_rank(View<const double> W, const KeptRank& keep);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/factorise.inl"
#endif
