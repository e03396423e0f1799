// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "peft/core/dtype.hpp"
#include "peft/ops/impl/code_books.hpp"
#include "peft/ops/impl/simd.hpp"

namespace peft::ops::detail {
/// Elements first … first + n of a stored row, widened.
template <class T>
using Widen = void (*)(T* out, const std::byte* row, std::int64_t first, std::int64_t n);
/// The same elements of as many rows as a register has lanes, element k of row i to out[(k - first) * stride + i]. Whole units of 32.
/// What lies `ahead` bytes behind them is fetched into the cache: so many short rows at once are more than the processor sees coming.
template <class T>
using WidenAcross = void (*)(T* out, std::int64_t stride, const std::byte* const* rows, std::int64_t first, std::int64_t n, std::int64_t ahead);
}  // namespace peft::ops::detail

#define PEFT_KERNELS "peft/ops/impl/quantized_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"
#define PEFT_KERNELS "peft/ops/impl/quantized_across_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"
