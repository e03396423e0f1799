// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <string>

#include "peft/core/parallel.hpp"
#include "peft/ops/impl/math.hpp"
#include "peft/ops/isa.hpp"
#include "peft/ops/weight_view.hpp"

#define PEFT_KERNELS "peft/ops/impl/elementwise_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops::detail {

/// Elements that one chunk of a memory-bound op takes: some 64 KiB, so that a chunk is worth handing out.
inline constexpr std::int64_t piece = 1 << 14;

/// The same in rows.
inline std::int64_t row_grain(std::int64_t cols) { return std::max<std::int64_t>(1, piece / std::max<std::int64_t>(1, cols)); }

/// f(row, first, n): n elements of a row from `first` on, until all are done, on the pool. Where no view has gaps (`whole`) the matrix is
/// one long row. For ops whose elements do not know of each other.
template <class F>
void each_piece(std::int64_t rows, std::int64_t cols, bool whole, const F& f) {
  if (whole) return parallel_ranges(rows * cols, piece, [&](std::int64_t begin, std::int64_t end) { f(0, begin, end - begin); });
  parallel_ranges(rows, row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) f(i, 0, cols);
  });
}

/// f(row) for all rows, on the pool.
template <class F>
void each_row(std::int64_t rows, std::int64_t cols, const F& f) {
  parallel_ranges(rows, row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) f(i);
  });
}

template <class T, class U>
void check_same_shape(const char* operation, const View<T>& a, const View<U>& b) {
  if (a.rows != b.rows || a.cols != b.cols) throw ShapeError(operation, to_string(Shape{a.rows, a.cols}) + " and " + to_string(Shape{b.rows, b.cols}));
}

}  // namespace peft::ops::detail
