// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// Rotary position embedding (Su et al. 2021, arXiv:2104.09864), in place: in every head of size head_dim the pair (i, i + rotary/2),
/// or (2i, 2i + 1) if interleaved, turns by the angle position · frequency_i. Elements from `rotary` on stay.
/// x (N, heads · head_dim); positions (N); cos and sin (positions, rotary / 2) as `rope_table` fills them.
/// The backward of a rotation is the rotation by the opposite angle: `inverse`.
template <Scalar T>
void rope(View<T> x, std::span<const std::int32_t> positions, View<const T> cos, View<const T> sin, std::int64_t head_dim, bool interleaved, bool inverse);

/// Rows p = 0, 1, …: cos and sin of (p · frequency_i), times `scale`. Angles are float32 products where T is float, as the reference's are.
template <Scalar T>
void rope_table(View<T> cos, View<T> sin, std::span<const double> frequencies, T scale = 1);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/rope.inl"
#endif
