// SPDX-License-Identifier: Apache-2.0
// Register tiles and panels of bfloat16, for processors with AVX512-BF16: vdpbf16ps adds two products at a time to a float32 sum. A panel's
// word holds two elements that follow each other along k, so that panels, tiles and the loop nest are those of float32 with half the depth.
#pragma once
#include "peft/ops/impl/gemm_kernels.hpp"
#include "peft/ops/isa.hpp"

#if defined(__x86_64__)
namespace peft::ops::avx512 {

#define PEFT_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")))
#define PEFT_SIMD PEFT_TARGET __attribute__((always_inline)) inline
#define PEFT_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)

typedef std::uint16_t Halves __attribute__((vector_size(64)));
typedef std::uint16_t HalfOfHalves __attribute__((vector_size(32), aligned(1), may_alias));
typedef std::uint32_t Words __attribute__((vector_size(64)));
typedef V<float> Pairs;  // sixteen words

// Written out, because compilers disagree about the builtins' names and types.
PEFT_SIMD void add_products(Pairs& sum, Pairs a, Pairs b) { asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b)); }
/// Rounded to nearest even: element i of `low` becomes half i, of `high` half 16 + i.
PEFT_SIMD Halves narrowed(V<float> low, V<float> high) {
  Halves both;
  asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(low), "v"(high));
  return both;
}
PEFT_SIMD Pairs as_pairs(Halves v) {
  Pairs words;
  __builtin_memcpy(&words, &v, sizeof words);
  return words;
}

template <int R>
PEFT_TARGET void tile_bf16(const detail::Tile<float>& t) {
  const float *A = t.a, *B = t.b;
  const std::int64_t lda = t.lda, ldb = t.ldb;
#define PEFT_DECLARE(i) [[maybe_unused]] V<float> p##i{}, q##i{};
#define PEFT_MULTIPLY(i)                                  \
  if constexpr (i < R) {                                  \
    const Pairs a = broadcast(A[i]);                      \
    add_products(p##i, a, b0), add_products(q##i, a, b1); \
  }
#define PEFT_STORE(i)                                                                 \
  if constexpr (i < R) {                                                              \
    float* c = t.c + i * t.ldc;                                                       \
    V<float> u = t.add ? load(c) : V<float>{}, v = t.add ? load(c + 16) : V<float>{}; \
    u += p##i * alpha, v += q##i * alpha;                                             \
    if (t.bias) u += load(t.bias), v += load(t.bias + 16);                            \
    store(c, u), store(c + 16, v);                                                    \
  }
  PEFT_ROWS(PEFT_DECLARE)
  for (std::int64_t k = t.depth; k--; A += lda, B += ldb) {
    const Pairs b0 = load(B), b1 = load(B + 16);
    PEFT_ROWS(PEFT_MULTIPLY)
  }
  const V<float> alpha = broadcast(t.alpha);
  PEFT_ROWS(PEFT_STORE)
#undef PEFT_DECLARE
#undef PEFT_MULTIPLY
#undef PEFT_STORE
}

/// Elements 0 … 31 of what lies at `from` (float, or bfloat16 if `pairs`), of which n are there; 0 for the others.
PEFT_SIMD Pairs pairs_at(const void* from, bool pairs, std::int64_t n) {
  if (pairs) {
    if (n >= 32) return load(static_cast<const float*>(from));
    Halves part{};
    __builtin_memcpy(&part, from, std::size_t(2 * n));
    return as_pairs(part);
  }
  const float* x = static_cast<const float*>(from);
  if (n >= 32) return as_pairs(narrowed(load(x), load(x + 16)));
  return as_pairs(narrowed(load_part(x, n), n > 16 ? load_part(x + 16, n - 16) : V<float>{}));
}

/// Sixteen elements of two rows, as words of one from each.
template <bool stored, int... I>
PEFT_SIMD Pairs riffled(const void* even, const void* odd, std::integer_sequence<int, I...>) {
  if constexpr (stored) {
    const HalfOfHalves low = *static_cast<const HalfOfHalves*>(even), high = *static_cast<const HalfOfHalves*>(odd);
    return as_pairs(__builtin_shufflevector(low, high, (I / 2 + I % 2 * 16)...));
  } else {
    const Halves both = narrowed(load(static_cast<const float*>(even)), load(static_cast<const float*>(odd)));
    return as_pairs(__builtin_shufflevector(both, both, (I / 2 + I % 2 * 16)...));
  }
}

template <int W>
PEFT_TARGET void pack_lines_bf16(float* d, const detail::Lines<float>& lines) {
  constexpr int part = 256;  // of k
  const bool pairs = lines.stored;
  const std::int64_t size = pairs ? 2 : 4;
  float widened[16 * part];
  for (std::int64_t k = 0; k < lines.depth; k += part) {
    const std::int64_t m = lines.depth - k < part ? lines.depth - k : part;
    for (int h = (W - 1) / 16 * 16; h >= 0; h -= 16) {  // downwards: a store at the right edge runs over into the next row
      const std::byte* from[16];
      if (W % 16 == 0 && lines.widen_across) {
        for (int i = 0; i < 16; i++) from[i] = lines.rows[h + i < lines.n ? h + i : lines.n - 1];
        lines.widen_across(widened, 16, from, lines.first + k, m, lines.ahead);
        float* to = d + k / 2 * W + h;
        for (std::int64_t j = 0; j < m; j += 2, to += W)
          store(to, riffled<false>(widened + 16 * j, widened + 16 * (j + 1), std::make_integer_sequence<int, 32>{}));
        continue;
      }
      for (int i = 0; i < 16; i++) {
        const int line = h + i < lines.n ? h + i : lines.n - 1;
        if (i > 0 && h + i > line) {
          from[i] = from[i - 1];
        } else if (lines.widen) {
          lines.widen(widened + part * i, lines.rows[line], lines.first + k, m);
          from[i] = reinterpret_cast<const std::byte*>(widened + part * i);
        } else {
          from[i] = lines.rows[line] + (lines.first + k) * size;
        }
      }
      float* to = d + k / 2 * W + h;
      for (std::int64_t j = 0; j < m; j += 32, to += 16 * W) {
        Pairs r[16];
        _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) r[i] = pairs_at(from[i] + j * size, pairs, m - j);
        transpose<float>(r);
        const std::int64_t words = (m - j + 1) / 2;
        if (words >= 16) {
          _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) store(to + i * W, r[i]);
        } else {
          for (std::int64_t i = 0; i < words; i++) store(to + i * W, r[i]);
        }
      }
    }
  }
}

template <int W, bool stored>
PEFT_SIMD void copy_pairs(float* d, const detail::Columns<float>& columns) {
  constexpr std::int64_t size = stored ? 2 : 4, most = 128;
  constexpr auto order = std::make_integer_sequence<int, 32>{};
  alignas(64) std::byte beside[2][(most + 16) * size];  // what is widened, cut off, or not there
  float words[most + 16];
  const std::int64_t n = columns.n, whole = columns.widen ? 0 : n / 16 * 16;
  for (std::int64_t k = 0; k < columns.depth; k += 2, d += W) {
    const std::byte* row = columns.base + k * columns.stride + columns.first * size;
    const bool last = k + 1 == columns.depth;
    for (int i = 0; i < 2; i++)
      if (last && i == 1)
        __builtin_memset(beside[1], 0, sizeof beside[1]);
      else if (columns.widen)
        columns.widen(reinterpret_cast<float*>(beside[i]), columns.base + (k + i) * columns.stride, columns.first, n);
      else if (whole < n)
        __builtin_memcpy(beside[i] + whole * size, row + i * columns.stride + whole * size, std::size_t((n - whole) * size));
    const std::byte* const next = last ? beside[1] : row + columns.stride;
    if (W == 32 && whole == n && n % 32 == 0) {  // the usual case goes straight to the panels
      float* to = d;
      for (std::int64_t j = 0; j < n; j += 32, to += columns.panel_stride) {
        store(to, riffled<stored>(row + j * size, next + j * size, order));
        store(to + 16, riffled<stored>(row + (j + 16) * size, next + (j + 16) * size, order));
      }
      continue;
    }
    for (std::int64_t j = 0; j < n; j += 16)
      store(words + j,
            j < whole ? riffled<stored>(row + j * size, next + j * size, order) : riffled<stored>(beside[0] + j * size, beside[1] + j * size, order));
    float *to = d, *from = words;
    std::int64_t left = n;
    for (; left >= W; left -= W, from += W, to += columns.panel_stride) __builtin_memcpy(to, from, W * sizeof(float));
    if (left > 0)
      for (int i = 0; i < W; i++) to[i] = i < left ? from[i] : 0.f;
  }
}

template <int W>
PEFT_TARGET void copy_columns_bf16(float* d, const detail::Columns<float>& columns) {
  if (columns.stored)
    copy_pairs<W, true>(d, columns);
  else
    copy_pairs<W, false>(d, columns);
}

inline bool has_bf16() {
  static const bool has = isa() == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
  return has;
}

/// The table of float32, but for what is made of panels.
inline const detail::GemmKernels<float>& gemm_bf16_kernels() {
  static const detail::GemmKernels<float> table = [] {
    detail::GemmKernels<float> t = gemm_kernels<float>();
    t.panel_type = DType::bf16;
    t.tile[1] = tile_bf16<1>, t.tile[2] = tile_bf16<2>, t.tile[4] = tile_bf16<4>, t.tile[8] = tile_bf16<8>, t.tile[14] = tile_bf16<14>;
    t.pack_a = pack_lines_bf16<14>, t.pack_b = pack_lines_bf16<32>, t.copy_a = copy_columns_bf16<14>, t.copy_b = copy_columns_bf16<32>;
    return t;
  }();
  return table;
}

#undef PEFT_TARGET
#undef PEFT_SIMD
#undef PEFT_ROWS

}  // namespace peft::ops::avx512
#endif
