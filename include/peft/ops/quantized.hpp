// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

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

/// A weight in memory of its own.
struct OwnedWeight {
  WeightView view;
  std::shared_ptr<const void> keep;
};

/// True if a weight with rows of so many values can be `quantized` to this type: a block type that is written, and whole blocks.
bool quantizable(DType type, std::int64_t cols);

/// As people write a type on a command line: nf4, q8_0.
std::string lower_name(DType type);
/// The type of this name among those that `quantized` writes. Throws ConfigError with the nearest: `what` says where the name stood.
DType quantizable_named(std::string_view operation, const std::string& what, std::string_view name);

/// A weight of any storage, written as one of the block types that `quantize` writes or as NF4, rows in Hugging Face's order. A few rows at a time are
/// widened. NF4 (Dettmers et al. 2023, arXiv:2305.14314) with its double quantisation: a block b of 64 values has c = max |w|, and codes q of four bits,
/// the values of NF4 nearest to w / c. Of all c the mean m is taken; 256 blocks in a row share d = max |c − m|, and (c − m) / d is rounded to a code k of
/// eight bits (the dynamic tree):
///
///     w ≈ nf4[q] · (tree[k] · d + m)
///
/// 4 + 8/64 + 32/(64·256) bits a value, and 33 bytes for each row. Throws ConfigError for another type, ShapeError for rows that are not whole blocks.
OwnedWeight quantized(const WeightView& w, DType type);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/quantized.inl"
#endif
