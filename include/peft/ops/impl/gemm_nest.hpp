// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <bit>
#include <utility>

#include "peft/core/parallel.hpp"
#include "peft/ops/impl/gemm_kernels.hpp"
#include "peft/ops/weight_view.hpp"

namespace peft::ops::detail {

/// Memory for the time of one product, kept by the calling thread: at most some megabytes, and nothing is allocated once the largest
/// product has been seen. `which`: a product may hold two at once. Products do not run within products on the same thread.
inline std::byte* scratch(int which, std::int64_t bytes) {
  struct Kept {
    memory::Block block;
    ~Kept() {
      if (block.data) memory::give_back(block);
    }
  };
  static thread_local Kept kept[2];
  memory::Block& block = kept[which].block;
  if (block.bytes < std::size_t(bytes)) {
    if (block.data) memory::give_back(std::exchange(block, {}));
    block = memory::take(std::bit_ceil(std::size_t(bytes)));
  }
  return static_cast<std::byte*>(block.data);
}

/// As many equal parts as threads can want at once; a chunk of work holds one of them. Taken by the caller, so that how much memory a
/// product needs does not depend on which threads come.
class Slots {
 public:
  static constexpr int most = 64;
  Slots(std::int64_t chunks, std::int64_t bytes)
      : n_(int(std::min(chunks, std::int64_t(std::min(num_threads(), most))))), bytes_((bytes + 63) / 64 * 64), data_(scratch(1, n_ * bytes_)) {}
  class Slot {
   public:
    Slot(Slots& slots) : slots_(slots) {
      for (;; i_ = (i_ + 1) % slots_.n_)
        if (!slots_.taken_[i_].test_and_set(std::memory_order_acquire)) return;
    }
    ~Slot() { slots_.taken_[i_].clear(std::memory_order_release); }
    Slot(const Slot&) = delete;
    std::byte* data() const { return slots_.data_ + i_ * slots_.bytes_; }

   private:
    Slots& slots_;
    int i_ = 0;
  };

 private:
  int n_;
  std::int64_t bytes_;
  std::byte* data_;
  std::atomic_flag taken_[most] = {};
};

/// A factor of a product: lines (rows of C for the left one, columns for the right one), each with `depth` elements along k.
struct Factor {
  const std::byte* data = nullptr;
  DType type = DType::f32;
  std::int64_t lines = 0, depth = 0, stride = 0;  // stride of stored rows in bytes
  bool along = true;                              // a stored row is a line; otherwise it holds one element of each line
  std::int64_t rope_head_dim = 0;                 // of the stored rows

  Factor() = default;
  /// The lines are the rows of w as it is seen, (out, in), or its columns.
  Factor(const WeightView& w, bool rows)
      : data(static_cast<const std::byte*>(w.data)),
        type(w.dtype),
        lines(rows ? w.rows : w.cols),
        depth(rows ? w.cols : w.rows),
        stride(bytes_of(w.dtype, w.stride)),
        along(rows != w.transposed),
        rope_head_dim(w.rope_head_dim) {}
  std::int64_t stored(std::int64_t r) const {
    if (rope_head_dim == 0) return r;
    const std::int64_t d = rope_head_dim, in_head = r % d;
    return r - in_head + 2 * (in_head % (d / 2)) + in_head / (d / 2);
  }
};

/// C (M, N) = alpha · A Bᵀ + beta · C [+ bias] [+ s · xa Bᵣᵀ], seen as lines times lines.
template <class T>
struct Product {
  Factor a, b;
  T alpha = 1, beta = 0;
  View<T> c;
  const T* bias = nullptr;  // one for each line of b
  bool flipped = false;     // c is (N, M): each element is the same chain of FMAs either way
  Factor xa{}, br{};        // of low rank; lines as of a and b
  T s = 0;
  void (*finish)(T* row, std::int64_t n) = nullptr;  // what happens to a piece of a row of C that is complete
};

/// The loop nest: both factors as packed panels, k in blocks. Which tiles and blocks there are decides nothing about the bits of an
/// element but where its chain over k is cut, and that depends on K alone.
template <class T>
class Nest {
 public:
  /// `exact`: the kernels of T itself, for what is of low rank.
  Nest(const GemmKernels<T>& kernels, const GemmKernels<T>& exact, const Product<T>& product) : f(kernels), low(exact), p(product) {
    M = p.a.lines, N = p.b.lines, K = p.a.depth;
    in_word = f.panel_type == DType::bf16 ? 2 : 1;
    const std::int64_t longest = 3072 / std::int64_t(sizeof(T)) * in_word;
    blocks = std::max<std::int64_t>(1, (K + longest - 1) / longest);
    kc = blocks == 1 ? K : ((K + blocks - 1) / blocks + 31) / 32 * 32;  // quantised units are not cut
    panels_m = (M + f.height - 1) / f.height, panels_n = (N + f.width - 1) / f.width;
    a_panel = f.height * words(kc) + 64 / std::int64_t(sizeof(T)), b_panel = f.width * std::max(words(kc), p.br.depth) + 64 / std::int64_t(sizeof(T));
    low_panel = p.xa.depth ? f.height * p.xa.depth + 64 / std::int64_t(sizeof(T)) : 0;
  }

  void run() {
    if (M == 0 || N == 0) return;
    constexpr std::int64_t bound = std::int64_t(4) << 20;  // bytes of packed A
    // With a long k some blocks of it at a time, so that B is not read again for every few rows.
    const std::int64_t panel = a_panel * std::int64_t(sizeof(T)), together = std::clamp<std::int64_t>(bound / (panels_m * panel), 1, blocks);
    const std::int64_t most = std::max<std::int64_t>(1, bound / (together * panel));
    const std::int64_t passes = (panels_m + most - 1) / most, each = (panels_m + passes - 1) / passes;
    const bool direct = in_word == 1 && panels_m == 1 && !p.a.along && p.a.type == dtype_of<T> && p.a.rope_head_dim == 0 && f.tile[M];
    T* const memory = reinterpret_cast<T*>(scratch(0, each * (together * panel + low_panel * std::int64_t(sizeof(T)))));
    a = direct ? nullptr : memory, a_low = memory + each * together * a_panel;
    for (first_block = 0; first_block < blocks; first_block = last_block) {
      last_block = std::min(blocks, first_block + together);
      for (std::int64_t begin = 0; begin < panels_m; begin += each) pass(begin, std::min(panels_m, begin + each));
    }
  }

 private:
  const GemmKernels<T>&f, &low;
  const Product<T>& p;
  std::int64_t M, N, K, kc, blocks, panels_m, panels_n, a_panel, b_panel, low_panel;
  std::int64_t in_word;  // elements of k
  T *a = nullptr, *a_low = nullptr;
  std::int64_t a_begin = 0, a_end = 0, first_block = 0, last_block = 0;  // the panels of A that are packed, and of which blocks of k

  std::int64_t depth(std::int64_t block) const { return std::min(kc, K - block * kc); }
  std::int64_t words(std::int64_t elements) const { return (elements + in_word - 1) / in_word; }
  // Fifteen or sixteen rows at the end are two tiles of eight rather than a high and a flat one.
  bool halved() const { return f.height == 14 && panels_m > 1 && (M % 14 == 1 || M % 14 == 2); }
  std::int64_t first_row(std::int64_t panel) const { return panel == panels_m - 1 && halved() ? (panel - 1) * 14 + 8 : std::min(M, panel * f.height); }
  int rows(std::int64_t panel) const { return int(first_row(panel + 1) - first_row(panel)); }
  Widen<T> widen(DType type) const { return type == dtype_of<T> || type == f.panel_type ? nullptr : f.widener(type); }

  void pass(std::int64_t begin, std::int64_t end) {
    a_begin = begin, a_end = end;
    if (a) {
      constexpr std::int64_t group = 8;
      const std::int64_t groups = (end - begin + group - 1) / group;
      parallel_for(groups * (last_block - first_block), [&](std::int64_t chunk) {
        const std::int64_t block = first_block + chunk / groups, first = begin + chunk % groups * group;
        for (std::int64_t i = first; i < std::min(end, first + group); i++)
          pack(p.a, f.pack_a, f.copy_a, f.height, packed_a(block, i), first_row(i), rows(i), block);
      });
    }
    const bool with_low = p.xa.depth > 0 && last_block == blocks;
    if (with_low)
      parallel_ranges(end - begin, 8, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t i = begin + first; i < begin + last; i++) {
          Lines<T> lines;
          for (int r = 0; r < rows(i); r++) lines.rows[r] = p.xa.data + (first_row(i) + r) * p.xa.stride;
          lines.n = rows(i), lines.first = 0, lines.depth = p.xa.depth, lines.widen = nullptr, lines.widen_across = nullptr, lines.stored = true;
          low.pack_a(a_low + (i - begin) * low_panel, lines);
        }
      });
    // A chunk is some panels of B times some of A: big enough to be worth claiming, small enough that all threads have several.
    const std::int64_t height = end - begin;
    std::int64_t wide = p.b.along || !is_quantized(p.b.type) ? 1 : std::max(1, 32 / f.width);
    constexpr std::int64_t worth = 1 << 19;  // products
    while (wide * f.width < 128 && wide < panels_n && wide * f.width * height * f.height * K < worth) wide *= 2;
    const std::int64_t groups = (panels_n + wide - 1) / wide;
    std::int64_t splits = groups < 12 ? std::min((12 + groups - 1) / groups, height * f.height / 128) : 1;
    splits = std::max<std::int64_t>(1, std::min(splits, height * wide * f.height * f.width * K / worth));
    const std::int64_t part = (height + splits - 1) / splits;
    Slots slots(groups * splits, wide * b_panel * std::int64_t(sizeof(T)));
    parallel_for(groups * splits, [&](std::int64_t chunk) {
      const std::int64_t column = chunk / splits * wide, row = begin + chunk % splits * part;
      Slots::Slot slot(slots);
      region(reinterpret_cast<T*>(slot.data()), row, std::min(end, row + part), column, std::min(panels_n, column + wide));
    });
  }

  T* packed_a(std::int64_t block, std::int64_t panel) const { return a + ((block - first_block) * (a_end - a_begin) + panel - a_begin) * a_panel; }

  // Panels of C: rows i0 … i1, columns j0 … j1. `packed` holds j1 − j0 panels of B.
  void region(T* packed, std::int64_t i0, std::int64_t i1, std::int64_t j0, std::int64_t j1) {
    if (i0 >= i1) return;
    const std::int64_t first = j0 * f.width, last = std::min(N, j1 * f.width);
    if (first_block == 0 && p.beta != T(0) && p.beta != T(1))
      for (std::int64_t i = first_row(i0); i < first_row(i1 - 1) + rows(i1 - 1); i++)
        for (std::int64_t j = first; j < last; j++) element(i, j) *= p.beta;
    // Where B's panel is used once or twice, and lies as the tile reads it, packing it would cost more than it saves.
    const bool in_place = in_word == 1 && panels_m <= 2 && !p.b.along && p.b.type == dtype_of<T> && p.b.rope_head_dim == 0;
    for (std::int64_t block = first_block; block < last_block; block++) {
      const std::int64_t whole = in_place ? N / f.width : j0;
      const std::int64_t from = std::max(j0, std::min(whole, j1));
      if (p.b.along)
        for (std::int64_t j = j0; j < j1; j++)
          pack(p.b, f.pack_b, f.copy_b, f.width, packed + (j - j0) * b_panel, j * f.width, int(std::min<std::int64_t>(f.width, N - j * f.width)), block);
      else if (from < j1)
        pack(p.b, f.pack_b, f.copy_b, f.width, packed + (from - j0) * b_panel, from * f.width, int(last - from * f.width), block);
      for (std::int64_t i = i0; i < i1; i++)
        for (std::int64_t j = j0; j < j1; j++) {
          Tile<T> t;
          t.depth = words(depth(block));
          t.a = a ? packed_a(block, i) : reinterpret_cast<const T*>(p.a.data + block * kc * p.a.stride),
          t.lda = a ? f.height : p.a.stride / std::int64_t(sizeof(T));
          t.b = packed + (j - j0) * b_panel, t.ldb = f.width;
          if (in_place && j < whole && t.depth > 0)
            t.b = reinterpret_cast<const T*>(p.b.data + block * kc * p.b.stride) + j * f.width, t.ldb = p.b.stride / std::int64_t(sizeof(T));
          t.alpha = p.alpha, t.add = block > 0 || p.beta != T(0);
          t.bias = block == 0 && p.bias ? p.bias + j * f.width : nullptr;
          one_tile(f, t, i, j);
        }
    }
    if (last_block < blocks) return;
    if (p.xa.depth > 0) {
      Tile<T> t;
      t.depth = p.br.depth, t.lda = f.height, t.ldb = f.width, t.alpha = p.s, t.add = true, t.bias = nullptr;
      for (std::int64_t j = j0; j < j1; j++) {
        pack_low(packed, j * f.width, int(std::min<std::int64_t>(f.width, N - j * f.width)));
        for (std::int64_t i = i0; i < i1; i++) t.a = a_low + (i - a_begin) * low_panel, t.b = packed, one_tile(low, t, i, j);
      }
    }
    if (p.finish)
      for (std::int64_t i = first_row(i0); i < first_row(i1 - 1) + rows(i1 - 1); i++) p.finish(&element(i, first), last - first);
  }

  // Columns first … first + n of the term of low rank.
  void pack_low(T* to, std::int64_t first, int n) {
    if (p.br.along) {
      Lines<T> lines;
      for (int i = 0; i < n; i++) lines.rows[i] = p.br.data + (first + i) * p.br.stride;
      lines.n = n, lines.first = 0, lines.depth = p.br.depth, lines.widen = nullptr, lines.widen_across = nullptr, lines.stored = true;
      return low.pack_b(to, lines);
    }
    Columns<T> columns;
    columns.base = p.br.data, columns.stride = p.br.stride, columns.n = n, columns.first = first, columns.depth = p.br.depth;
    columns.widen = nullptr, columns.stored = true, columns.panel_stride = 0;
    low.copy_b(to, columns);
  }

  T& element(std::int64_t i, std::int64_t j) const { return p.flipped ? p.c(j, i) : p.c(i, j); }

  void one_tile(const GemmKernels<T>& kernels, Tile<T>& t, std::int64_t i, std::int64_t j) {
    const std::int64_t row = first_row(i), column = j * f.width;
    const int height = rows(i), width = int(std::min<std::int64_t>(f.width, N - column));
    int made = height;
    while (!kernels.tile[made]) made++;
    if (made == height && width == f.width && !p.flipped) {
      t.c = p.c.data + row * p.c.stride + column, t.ldc = p.c.stride;
      return kernels.tile[made](t);
    }
    // At an edge the whole tile is computed beside C: the same arithmetic.
    T whole[16 * 32], bias[32];
    if (t.add)
      for (int r = 0; r < height; r++)
        for (int c = 0; c < width; c++) whole[r * f.width + c] = element(row + r, column + c);
    if (t.bias && width < f.width) std::copy_n(t.bias, width, bias), std::fill(bias + width, bias + f.width, T(0)), t.bias = bias;
    t.c = whole, t.ldc = f.width;
    kernels.tile[made](t);
    for (int r = 0; r < height; r++)
      for (int c = 0; c < width; c++) element(row + r, column + c) = whole[r * f.width + c];
  }

  // Lines first … first + n of a factor, block `block` of k, to a panel (or, where rows are k, to several).
  template <class Pack, class Copy>
  void pack(const Factor& s, Pack pack_lines, Copy copy_columns, int width, T* to, std::int64_t first, int n, std::int64_t block) {
    if (s.along) {
      Lines<T> lines;
      for (int i = 0; i < n; i++) lines.rows[i] = s.data + s.stored(first + i) * s.stride;
      lines.n = n, lines.first = block * kc, lines.depth = depth(block), lines.widen = widen(s.type);
      lines.widen_across = lines.widen ? f.across(s.type) : nullptr, lines.ahead = num_threads() * width * s.stride;
      lines.stored = s.type == f.panel_type;
      return pack_lines(to, lines);
    }
    Columns<T> columns;
    columns.n = n, columns.first = first, columns.widen = widen(s.type), columns.stored = s.type == f.panel_type, columns.panel_stride = b_panel;
    // Permuted rows of half a head lie two apart.
    const std::int64_t end = block * kc + depth(block), half = s.rope_head_dim / 2;  // even where a word holds two
    for (std::int64_t k = block * kc; k < end; k += columns.depth) {
      columns.depth = half ? std::min(end - k, half - k % half) : end - k;
      columns.base = s.data + s.stored(k) * s.stride, columns.stride = half ? 2 * s.stride : s.stride;
      copy_columns(to + words(k - block * kc) * width, columns);
    }
  }
};

}  // namespace peft::ops::detail
