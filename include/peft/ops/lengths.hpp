// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// squares[o] += ‖W's row o‖², or of column o (`by_columns`): in double.
template <Scalar T>
void squared_lengths(std::span<double> squares, const WeightView& W, bool by_columns);
/// n[o] = ‖row o of W + s B A‖ from squares = ‖W‖² by rows, aw = A Wᵀ (r, out) and baa = B A Aᵀ (out, r): √(squares + 2 s Σ B ∘ awᵀ + s² Σ B ∘ baa).
template <Scalar T>
void lengths_of_sum(std::span<T> n, std::span<const double> squares, View<const T> B, View<const T> aw, View<const T> baa, double s);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/lengths.inl"
#endif
