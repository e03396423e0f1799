// SPDX-License-Identifier: Apache-2.0
// Register tiles, panels and dot products. Read once for each instruction set by gemm_kernels.hpp.
namespace peft::ops::PEFT_ISA {

template <class T>
inline constexpr int MR = PEFT_MR;
template <class T>
inline constexpr int NR = 2 * L<T>;

// Every element of C is one chain of FMAs in ascending k, whatever the tile's height: a row's bits do not depend on its neighbours.
// Accumulators have names because g++ keeps an array of them in memory.
template <class T, int R>
PEFT_TARGET void tile(const detail::Tile<T>& t) {
  const T *A = t.a, *B = t.b;
  const std::int64_t lda = t.lda, ldb = t.ldb;
#define PEFT_DECLARE(i) [[maybe_unused]] V<T> p##i{}, q##i{};
#define PEFT_MULTIPLY(i)            \
  if constexpr (i < R) {            \
    const V<T> a = broadcast(A[i]); \
    p##i += a * b0, q##i += a * b1; \
  }
#define PEFT_STORE(i)                                                       \
  if constexpr (i < R) {                                                    \
    T* c = t.c + i * t.ldc;                                                 \
    V<T> u = t.add ? load(c) : V<T>{}, v = t.add ? load(c + L<T>) : V<T>{}; \
    u += p##i * alpha, v += q##i * alpha;                                   \
    if (t.bias) u += load(t.bias), v += load(t.bias + L<T>);                \
    store(c, u), store(c + L<T>, v);                                        \
  }
  PEFT_ROWS(PEFT_DECLARE)
  for (std::int64_t k = t.depth; k--; A += lda, B += ldb) {
    const V<T> b0 = load(B), b1 = load(B + L<T>);
    PEFT_ROWS(PEFT_MULTIPLY)
  }
  const V<T> alpha = broadcast(t.alpha);
  PEFT_ROWS(PEFT_STORE)
#undef PEFT_DECLARE
#undef PEFT_MULTIPLY
#undef PEFT_STORE
}

template <class T, int W>
PEFT_TARGET void pack_lines(T* d, const detail::Lines<T>& lines) {
  constexpr int part = 256;  // of k: what is widened at once stays in the first-level cache
  T widened[L<T>][part + L<T>];
  for (std::int64_t k = 0; k < lines.depth; k += part) {
    const std::int64_t m = lines.depth - k < part ? lines.depth - k : part;
    // Downwards, because a store at the panel's right edge runs over into the next row's beginning, which is then written.
    for (int h = (W - 1) / L<T> * L<T>; h >= 0; h -= L<T>) {
      if constexpr (W % L<T> == 0)
        if (lines.widen_across) {
          const std::byte* rows[L<T>];
          for (int i = 0; i < L<T>; i++) rows[i] = lines.rows[h + i < lines.n ? h + i : lines.n - 1];
          lines.widen_across(d + k * W + h, W, rows, lines.first + k, m, lines.ahead);
          continue;
        }
      const T* from[L<T>];
      for (int i = 0; i < L<T>; i++) {
        const int line = h + i < lines.n ? h + i : lines.n - 1;
        from[i] = i > 0 && h + i > line ? from[i - 1] : lines.widen ? widened[i] : reinterpret_cast<const T*>(lines.rows[line]) + lines.first + k;
        if (from[i] == widened[i]) lines.widen(widened[i], lines.rows[line], lines.first + k, m);
      }
      T* to = d + k * W + h;
      std::int64_t j = 0;
      for (; j + L<T> <= m; j += L<T>, to += L<T> * W) {
        V<T> r[L<T>];
        _Pragma("GCC unroll 16") for (int i = 0; i < L<T>; i++) r[i] = load(from[i] + j);
        transpose<T>(r);
        _Pragma("GCC unroll 16") for (int i = 0; i < L<T>; i++) store(to + i * W, r[i]);
      }
      for (; j < m; j++, to += W)
        for (int i = 0; i < L<T> && h + i < W; i++) to[i] = from[i][j];
    }
  }
}

template <class T, int W>
PEFT_TARGET void copy_columns(T* d, const detail::Columns<T>& columns) {
  const std::byte* row = columns.base;
  T widened[128];
  for (std::int64_t k = 0; k < columns.depth; k++, row += columns.stride, d += W) {
    const T* from = reinterpret_cast<const T*>(row) + columns.first;
    if (columns.widen && columns.n == W) {
      columns.widen(d, row, columns.first, W);
      continue;
    }
    if (columns.widen) columns.widen(widened, row, columns.first, columns.n), from = widened;
    T* to = d;
    int left = columns.n;
    for (; left >= W; left -= W, from += W, to += columns.panel_stride) __builtin_memcpy(to, from, W * sizeof(T));
    if (left > 0)
      for (int i = 0; i < W; i++) to[i] = i < left ? from[i] : T(0);
  }
}

template <class T>
PEFT_TARGET void sum_columns(T* sums, const T* x, std::int64_t stride, std::int64_t rows, std::int64_t n) {
  std::int64_t j = 0;
  for (; j + 4 * L<T> <= n; j += 4 * L<T>) {
    V<T> s[4];
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) s[i] = load(sums + j + i * L<T>);
    for (std::int64_t r = 0; r < rows; r++) _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) s[i] += load(x + r * stride + j + i * L<T>);
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) store(sums + j + i * L<T>, s[i]);
  }
  for (; j < n; j++)
    for (std::int64_t r = 0; r < rows; r++) sums[j] += x[r * stride + j];
}

// Where the dot products of XB rows of x and WB rows of w go; sums[i * WB + r] are their partial sums.
template <class T, int XB, int WB>
PEFT_SIMD void put(const detail::Dots<T>& d, std::int64_t first, std::int64_t row, V<T>* sums) {
  constexpr int all = XB * WB, n = (all & (all - 1)) == 0 ? all : WB, step = n < L<T> ? L<T> / n : 1;
  T products[all * step + L<T>];
  _Pragma("GCC unroll 4") for (int i = 0; i < all; i += n) sums_of<T, n>(products + i * step, sums + i);
  _Pragma("GCC unroll 16") for (int i = 0; i < all * step; i += L<T>) store(products + i, load(products + i) * d.alpha);
  // Rounded products are added: if the compiler fused a product with its sum here and not there, a row's bits would depend on the rows beside it.
  __asm__("" : "+m"(products));
  _Pragma("GCC unroll 8") for (int i = 0; i < XB; i++) {
    T* const y = d.y + (first + i) * d.ldy;
    _Pragma("GCC unroll 4") for (int r = 0; r < WB; r++) {
      const std::int64_t out = d.out[row + r];
      T value = products[(i * WB + r) * step];
      if (d.add) value += y[out];
      y[out] = d.bias ? value + d.bias[out] : value;
    }
  }
}

// Dot products with rows of w that are in the cache: 4 × 4 pairs at once (4 × 3 where there are 16 registers), each a chain of FMAs with
// L partial sums, which a fixed tree adds up.
template <class T, int XB, int WB>
PEFT_SIMD void dot_rows(const detail::Dots<T>& d, std::int64_t row, std::int64_t first) {
  V<T> sums[XB * WB];
  _Pragma("GCC unroll 16") for (int i = 0; i < XB * WB; i++) sums[i] = V<T>{};
  const std::int64_t w_stride = d.w_stride / std::int64_t(sizeof(T));
  const T *w = reinterpret_cast<const T*>(d.w) + row * w_stride, *x = d.x + first * d.ldx;
  std::int64_t k = d.depth;
  for (; k >= L<T>; k -= L<T>, w += L<T>, x += L<T>) {
    V<T> e[WB];
    // One of the two in registers, the other one by one.
    if constexpr (XB < WB) {
      _Pragma("GCC unroll 8") for (int i = 0; i < XB; i++) e[i] = load(x + i * d.ldx);
      _Pragma("GCC unroll 8") for (int r = 0; r < WB; r++) {
        const V<T> v = load(w + r * w_stride);
        _Pragma("GCC unroll 8") for (int i = 0; i < XB; i++) sums[i * WB + r] += v * e[i];
      }
    } else {
      _Pragma("GCC unroll 8") for (int r = 0; r < WB; r++) e[r] = load(w + r * w_stride);
      _Pragma("GCC unroll 8") for (int i = 0; i < XB; i++) {
        const V<T> v = load(x + i * d.ldx);
        _Pragma("GCC unroll 8") for (int r = 0; r < WB; r++) sums[i * WB + r] += e[r] * v;
      }
    }
  }
  if (k == L<T> / 2)  // low ranks
    _Pragma("GCC unroll 8") for (int i = 0; i < XB; i++) _Pragma("GCC unroll 8") for (int r = 0; r < WB; r++) sums[i * WB + r] +=
        load_half(w + r * w_stride) * load_half(x + i * d.ldx);
  else if (k > 0)
    _Pragma("GCC unroll 8") for (int i = 0; i < XB; i++) _Pragma("GCC unroll 8") for (int r = 0; r < WB; r++) sums[i * WB + r] +=
        load_part(w + r * w_stride, k) * load_part(x + i * d.ldx, k);
  put<T, XB, WB>(d, first, row, sums);
}

template <class T>
PEFT_TARGET void dots(const detail::Dots<T>& d) {
  constexpr int XB = PEFT_BYTES == 64 ? 4 : 3, WB = 4;
  for (std::int64_t row = 0; row < d.rows;) {
    std::int64_t i = 0;
    if (row + WB <= d.rows) {
      for (; i + XB <= d.count; i += XB) dot_rows<T, XB, WB>(d, row, i);
      for (; i + 2 <= d.count; i += 2) dot_rows<T, 2, WB>(d, row, i);
      for (; i < d.count; i++) dot_rows<T, 1, WB>(d, row, i);
      row += WB;
    } else {
      for (; i < d.count; i++) dot_rows<T, 1, 1>(d, row, i);
      row++;
    }
  }
}

// WB stored rows of w against XB rows of x, as w comes from memory: each block is widened in registers once for the XB rows. A pair's sum
// is one chain along k with L partial sums, in fixed order, whatever WB and XB are.
template <DType type, class T, int XB, int WB>
PEFT_SIMD void stream_rows(const detail::Dots<T>& d, std::int64_t row, std::int64_t first) {
  constexpr int W = L<T>, S = simple<type> ? 32 : W, n = S / W;
  // As many rows of w in registers at once as fit beside the sums: a part of x is loaded once for them.
  constexpr int RB = PEFT_BYTES == 64 ? WB : 1;
  constexpr std::int64_t size = info(type).bytes * (simple<type> ? 1 : W), slab = 64;
  V<T> sums[XB * WB];
  _Pragma("GCC unroll 16") for (int i = 0; i < XB * WB; i++) sums[i] = V<T>{};
  Bytes w = reinterpret_cast<Bytes>(d.w) + row * d.w_stride;
  const Bytes start = w;
  const std::int64_t stride = d.w_stride, ldx = d.ldx;
  const T* x = d.x + first * ldx;
  [[maybe_unused]] float scales[WB][simple<type> ? 2 * slab + 8 : 1];
  for (std::int64_t left = d.depth / S; left > 0; left -= slab) {
    const std::int64_t blocks = left < slab ? left : slab;
    if constexpr (simple<type>)
      for (int r = 0; r < WB; r++) scales_of<type>(scales[r], w + r * stride, blocks);
    for (std::int64_t b = 0; b < blocks; b++, w += size, x += S) {
      // The rows lie behind each other: what comes after them is fetched 2 KiB ahead, in its order.
      _Pragma("GCC unroll 8") for (int line = 0; line < (WB * size + 63) / 64; line++) __builtin_prefetch(start + WB * (w - start) + 2048 + 64 * line);
      _Pragma("GCC unroll 4") for (int r = 0; r < WB; r += RB) {
        V<T> e[RB][n];
        _Pragma("GCC unroll 4") for (int q = 0; q < RB; q++) {
          Bytes from = w + (r + q) * stride;
          if constexpr (type == dtype_of<T>)
            e[q][0] = load(reinterpret_cast<const T*>(from));
          else if constexpr (simple<type>)
            unit<type>(e[q], from, scales[r + q][2 * b], scales[r + q][2 * b + 1]);
          else
            e[q][0] = plain<type>(from);
        }
        _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) _Pragma("GCC unroll 8") for (int i = 0; i < XB; i++) {
          V<T> v = load(x + i * ldx + j * W);
          if constexpr (RB > 1) in_register<T>(v);
          _Pragma("GCC unroll 4") for (int q = 0; q < RB; q++) sums[i * WB + r + q] += e[q][j] * v;
        }
      }
    }
  }
  if constexpr (!simple<type>)
    if (const std::int64_t rest = d.depth % S; rest > 0)
      for (int r = 0; r < WB; r++) {
        std::uint8_t end[size] = {};
        for (std::int64_t i = 0; i < rest * info(type).bytes; i++) end[i] = w[r * stride + i];
        V<T> e;
        if constexpr (type == dtype_of<T>)
          e = load(reinterpret_cast<const T*>(end));
        else
          e = plain<type>(end);
        for (int i = 0; i < XB; i++) sums[i * WB + r] += e * load_part(x + i * ldx, rest);
      }
  put<T, XB, WB>(d, first, row, sums);
}

template <DType type, class T>
PEFT_TARGET void stream(const detail::Dots<T>& d) {
  constexpr int XB = PEFT_BYTES == 64 ? 4 : 2;
  std::int64_t row = 0;
  for (; row + 4 <= d.rows; row += 4) {
    std::int64_t i = 0;
    if constexpr (PEFT_BYTES == 64 && is_quantized(type))  // widening costs as much as products with some four rows
      for (; i + 8 <= d.count; i += 8) stream_rows<type, T, 8, 2>(d, row, i), stream_rows<type, T, 8, 2>(d, row + 2, i);
    for (; i + XB <= d.count; i += XB) stream_rows<type, T, XB, 4>(d, row, i);
    for (; i < d.count; i++) stream_rows<type, T, 1, 4>(d, row, i);
  }
  for (; row < d.rows; row++)
    for (std::int64_t i = 0; i < d.count; i++) stream_rows<type, T, 1, 1>(d, row, i);
}

template <class T>
PEFT_TARGET auto stream_of(DType type) -> void (*)(const detail::Dots<T>&) {
  if (type == dtype_of<T>) return stream<dtype_of<T>, T>;
  if constexpr (sizeof(T) == 4) {
    if (type == DType::f16) return stream<DType::f16, float>;
    if (type == DType::bf16) return stream<DType::bf16, float>;
    switch (type) {
      case DType::q4_0:
        return stream<DType::q4_0, float>;
      case DType::q4_1:
        return stream<DType::q4_1, float>;
      case DType::q5_0:
        return stream<DType::q5_0, float>;
      case DType::q5_1:
        return stream<DType::q5_1, float>;
      case DType::q8_0:
        return stream<DType::q8_0, float>;
      default:
        break;
    }
  }
  return nullptr;
}

template <class T>
PEFT_TARGET const detail::GemmKernels<T>& gemm_kernels() {
  constexpr int M = MR<T>, N = NR<T>;
#if PEFT_MR == 14
  static constexpr detail::GemmKernels<T> table = {
      M,
      N,
      dtype_of<T>,
      {nullptr, tile<T, 1>, tile<T, 2>, nullptr, tile<T, 4>, nullptr, nullptr, nullptr, tile<T, 8>, nullptr, nullptr, nullptr, nullptr, nullptr, tile<T, 14>},
      pack_lines<T, M>,
      pack_lines<T, N>,
      copy_columns<T, M>,
      copy_columns<T, N>,
      widener<T>,
      across<T>,
      dots<T>,
      stream_of<T>,
      16,
      sum_columns<T>};
#else
  static constexpr detail::GemmKernels<T> table = {M,
                                                   N,
                                                   dtype_of<T>,
                                                   {nullptr, tile<T, 1>, tile<T, 2>, nullptr, tile<T, 4>, nullptr, tile<T, 6>},
                                                   pack_lines<T, M>,
                                                   pack_lines<T, N>,
                                                   copy_columns<T, M>,
                                                   copy_columns<T, N>,
                                                   widener<T>,
                                                   across<T>,
                                                   dots<T>,
                                                   stream_of<T>,
                                                   5,
                                                   sum_columns<T>};
#endif
  return table;
}

}  // namespace peft::ops::PEFT_ISA
