// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "peft/core/parallel.hpp"
#include "peft/ops/impl/math.hpp"
#include "peft/ops/isa.hpp"

#define PEFT_KERNELS "peft/ops/impl/rowwise_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops::detail {

/// Rows that one chunk of a memory-bound op takes: some 64 KiB, so that a chunk is worth handing out.
inline std::int64_t row_grain(std::int64_t cols) {
  const std::int64_t rows = (1 << 14) / (cols > 0 ? cols : 1);
  return rows < 1 ? 1 : rows;
}
/// f(row) for all rows, on the pool.
template <class F>
void each_row(std::int64_t rows, std::int64_t cols, const F& f) {
  parallel_ranges(rows, row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) f(i);
  });
}

}  // namespace peft::ops::detail
