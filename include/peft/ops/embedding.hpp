// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// y row n = scale · W row ids[n], widened. Throws ShapeError for an id outside 0 … W.rows.
template <Scalar T>
void embedding_forward(View<T> y, std::span<const std::int32_t> ids, const WeightView& w, T scale = 1);
/// dW row ids[n] += scale · dy row n, in the order of n; rows whose id is `padding` get nothing (-1: none).
template <Scalar T>
void embedding_backward(GradSink<T> dw, View<const T> dy, std::span<const std::int32_t> ids, T scale = 1, std::int32_t padding = -1);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/embedding.inl"
#endif
