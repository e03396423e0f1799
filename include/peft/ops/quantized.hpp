// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// Elements first … first + n of a stored row, widened to T. Any DType that is a real number, any first and n (blocks are cut).
template <Scalar T>
void widen(T* out, const void* row, DType type, std::int64_t first, std::int64_t n);

/// All of w as (out, in), in Hugging Face's order.
template <Scalar T>
void widen(View<T> out, const WeightView& w);

/// One stored row of n values written as `type` (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1): the bytes that ggml's reference quantiser writes.
void quantize(void* row, DType type, const float* values, std::int64_t n);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/quantized.inl"
#endif
