// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "peft/ops/impl/quantized_kernels.hpp"

namespace peft::ops::detail {

/// One register tile: C (rows, NR) = alpha · A B [+ C] [+ bias], A (depth, rows) and B (depth, NR) with their own strides along k.
template <class T>
struct Tile {
  std::int64_t depth;
  const T* a;
  std::int64_t lda;
  const T* b;
  std::int64_t ldb;
  T* c;
  std::int64_t ldc;
  T alpha;
  bool add;
  const T* bias;
};

/// n ≤ NR lines that run along k: line i is rows[i], elements first … first + depth. To a panel (depth, width) of T; lines that are
/// missing repeat the last one. Stores run over by less than a vector behind the panel. widen is null where the lines hold T already, or (stored)
/// what the panels hold.
template <class T>
struct Lines {
  const std::byte* rows[64];
  int n;
  std::int64_t first, depth;
  Widen<T> widen;
  WidenAcross<T> widen_across;  // null: line by line
  std::int64_t ahead;           // bytes to the lines of the panel that this thread is likely to take next
  bool stored;
};

/// The same for panels side by side from a matrix whose rows are k: row k at base + k · stride (bytes), elements first … first + n, at
/// most 128. What a panel lacks is 0.
template <class T>
struct Columns {
  const std::byte* base;
  std::int64_t stride;
  int n;
  std::int64_t first, depth, panel_stride;
  Widen<T> widen;
  bool stored;
};

/// y(i, out[r]) = alpha · x_i · w_r [+ y] [+ bias[out[r]]] for `count` rows i of x and `rows` rows r of w, each a dot product along k.
template <class T>
struct Dots {
  std::int64_t depth;
  const std::byte* w;
  std::int64_t w_stride, rows;  // stride in bytes
  const std::int32_t* out;
  const T* x;
  std::int64_t ldx, count;
  T* y;
  std::int64_t ldy;
  T alpha;
  bool add;
  const T* bias;
};

/// What the loop nest needs of an instruction set.
template <class T>
struct GemmKernels {
  int height, width;                    // of the register tile: MR, NR
  DType panel_type;                     // of panels' elements: T, or bf16, two in a word
  void (*tile[16])(const Tile<T>&);     // by rows; null: not made, take the next higher
  void (*pack_a)(T*, const Lines<T>&);  // to a panel MR wide
  void (*pack_b)(T*, const Lines<T>&);  // NR wide
  void (*copy_a)(T*, const Columns<T>&);
  void (*copy_b)(T*, const Columns<T>&);
  Widen<T> (*widener)(DType);
  WidenAcross<T> (*across)(DType);
  void (*dots)(const Dots<T>&);              // few rows of w, which hold T
  void (*(*stream)(DType))(const Dots<T>&);  // many rows of w, read once; null for a type that is widened first
  std::int64_t streamed;                     // for more rows of x than these blocks are widened to memory first
  void (*sum_columns)(T* sums, const T* x, std::int64_t stride, std::int64_t rows, std::int64_t n);  // sums += rows of x, in order
};

}  // namespace peft::ops::detail

#define PEFT_KERNELS "peft/ops/impl/gemm_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"
