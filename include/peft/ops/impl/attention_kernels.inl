// SPDX-License-Identifier: Apache-2.0
// One block of queries against one tile of keys. A block's lanes are its (query, head) pairs; scores stand keys down and lanes across,
// so that the softmax's maxima and sums run down the registers, and every product of forward and backward reads its factors as they lie:
//
//     S (keys, lanes) = K · qᵀ            O  (lanes, dim) += Pᵀ · V
//     dP = V · doutᵀ                      dq (lanes, dim) += dSᵀ · K
//     dV (keys, dim) += P · dout          dK (keys, dim)  += dS · q
//
// Each element of a product is one chain of FMAs in the order of k, whatever the block's size: a lane does not know of its neighbours.
namespace peft::ops::PEFT_ISA {

// R rows and N registers of C (+)= A B. A's element (r, k) at A[r · row + k · step].
template <class T, int R, int N, bool add>
PEFT_TARGET void product_block(std::int64_t depth, const T* A, std::int64_t row, std::int64_t step, const T* B, std::int64_t ldb, T* C, std::int64_t ldc) {
  V<T> c[R][N];
  _Pragma("GCC unroll 8") for (int r = 0; r < R; r++) _Pragma("GCC unroll 8") for (int j = 0; j < N; j++) c[r][j] = add ? load(C + r * ldc + j * L<T>) : V<T>{};
  for (std::int64_t k = 0; k < depth; k++, A += step, B += ldb) {
    V<T> b[N];
    _Pragma("GCC unroll 8") for (int j = 0; j < N; j++) b[j] = load(B + j * L<T>);
    _Pragma("GCC unroll 8") for (int r = 0; r < R; r++) {
      const V<T> a = broadcast(A[r * row]);
      _Pragma("GCC unroll 8") for (int j = 0; j < N; j++) c[r][j] += a * b[j];
    }
  }
  _Pragma("GCC unroll 8") for (int r = 0; r < R; r++) _Pragma("GCC unroll 8") for (int j = 0; j < N; j++) store(C + r * ldc + j * L<T>, c[r][j]);
}
template <class T, int R, int N, bool add>
PEFT_TARGET void product_column(std::int64_t rows, std::int64_t depth, const T* A, std::int64_t row, std::int64_t step, const T* B, std::int64_t ldb, T* C,
                                std::int64_t ldc) {
  for (std::int64_t i = 0; i < rows; i += R) product_block<T, R, N, add>(depth, A + i * row, row, step, B, ldb, C + i * ldc, ldc);
}
// C (rows, n) (+)= A (rows, depth) B (depth, n); rows are a multiple of 8, n of 16.
template <class T, bool add>
PEFT_TARGET void product(std::int64_t rows, std::int64_t n, std::int64_t depth, const T* A, std::int64_t row, std::int64_t step, const T* B, std::int64_t ldb,
                         T* C, std::int64_t ldc) {
  constexpr int most = PEFT_BYTES == 64 ? 4 : PEFT_BYTES == 32 ? 3 : 2;
  for (std::int64_t j = 0; j < n;) {
    const std::int64_t left = (n - j) / L<T>, take = left < most ? left : left == most + 1 ? (most + 1) / 2 : most;
    if (take == 4) product_column < T, 4, most<4 ? most : 4, add>(rows, depth, A, row, step, B + j, ldb, C + j, ldc);
    if (take == 3) product_column < T, 4, most<3 ? most : 3, add>(rows, depth, A, row, step, B + j, ldb, C + j, ldc);
    if (take == 2) product_column<T, PEFT_BYTES == 64 ? 8 : 4, 2, add>(rows, depth, A, row, step, B + j, ldb, C + j, ldc);
    if (take == 1) product_column<T, 8, 1, add>(rows, depth, A, row, step, B + j, ldb, C + j, ldc);
    j += take * L<T>;
  }
}

// A row of n elements times `factor` to one of `padded`, zeros behind.
template <class T>
PEFT_TARGET void pack_row(T* to, const T* from, T factor, std::int64_t n, std::int64_t padded) {
  const V<T> f = broadcast(factor);
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) store(to + i, f * load(from + i));
  if (i < n) store(to + i, f * load_part(from + i, n - i)), i += L<T>;
  for (; i < padded; i += L<T>) store(to + i, V<T>{});
}
// (rows, cols) to (cols, rows), both multiples of 16
template <class T>
PEFT_TARGET void turn(T* to, const T* from, std::int64_t rows, std::int64_t cols) {
  for (std::int64_t i = 0; i < rows; i += L<T>)
    for (std::int64_t j = 0; j < cols; j += L<T>) {
      V<T> r[L<T>];
      _Pragma("GCC unroll 16") for (int k = 0; k < L<T>; k++) r[k] = load(from + (i + k) * cols + j);
      transpose<T>(r);
      _Pragma("GCC unroll 16") for (int k = 0; k < L<T>; k++) store(to + (j + k) * rows + i, r[k]);
    }
}
template <class T>
PEFT_TARGET T row_dot(const T* a, const T* b, std::int64_t n) {
  V<T> s{};
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) s += load(a + i) * load(b + i);
  if (i < n) s += load_part(a + i, n - i) * load_part(b + i, n - i);
  return sum<T>(s);
}

// What a lane does not see becomes `hidden`.
template <class T>
PEFT_SIMD V<T> hide(V<T> v, const detail::KeyTile<T>& t, std::int64_t j, V<T> first, V<T> last, V<T> hidden) {
  if (j < t.context) return v;
  const V<T> at = broadcast(T(j));
  v = at < first ? hidden : v;
  return at < last ? v : hidden;
}

// Scores to e^(s − maximum), the running maximum and sum of each lane, and the factor by which what was summed before shrinks.
template <class T>
PEFT_TARGET void soften(const detail::QueryBlock<T>& b, const detail::KeyTile<T>& t) {
  const V<T> none = broadcast(-std::numeric_limits<T>::infinity());
  const std::int64_t w = b.width;
  for (std::int64_t c = 0; c < w; c += L<T>) {
    T* const p = b.p + c;
    const V<T> before = load(b.largest + c);
    V<T> m0 = before, m1 = none;
    if (t.masked) {
      const V<T> first = load(b.first + c), last = load(b.last + c);
      for (std::int64_t j = 0; j < t.count; j++) {
        const V<T> s = hide<T>(load(p + j * w), t, j, first, last, none);
        store(p + j * w, s);
        m0 = max<T>(s, m0);
      }
    } else {
      for (std::int64_t j = 0; j + 1 < t.count; j += 2) m0 = max<T>(load(p + j * w), m0), m1 = max<T>(load(p + j * w + w), m1);
      if (t.count % 2) m0 = max<T>(load(p + (t.count - 1) * w), m0);
    }
    const V<T> most = max<T>(m1, m0), from = most > none ? most : V<T>{};
    V<T> s0{}, s1{};
    for (std::int64_t j = 0; j + 1 < t.count; j += 2) {
      const V<T> e0 = exp<T>(load(p + j * w) - from), e1 = exp<T>(load(p + j * w + w) - from);
      store(p + j * w, e0), store(p + j * w + w, e1);
      s0 += e0, s1 += e1;
    }
    if (t.count % 2) {
      const V<T> e = exp<T>(load(p + (t.count - 1) * w) - from);
      store(p + (t.count - 1) * w, e);
      s0 += e;
    }
    const V<T> shrink = exp<T>(before - from);
    store(b.largest + c, most), store(b.shrink + c, shrink);
    store(b.total + c, load(b.total + c) * shrink + (s0 + s1));
  }
  for (std::int64_t lane = 0; lane < b.lanes; lane++) {
    const T shrink = b.shrink[lane];
    T* const o = b.o + lane * b.padded;
    if (shrink == T(1)) continue;
    const V<T> f = broadcast(shrink);
    for (std::int64_t i = 0; i < b.padded; i += L<T>) store(o + i, load(o + i) * f);
  }
}

// s ← c tanh(s / c) of n scores, whole registers of them.
template <class T>
PEFT_TARGET void cap_scores(T* s, T softcap, std::int64_t n) {
  const V<T> c = broadcast(softcap), per_c = broadcast(T(1) / softcap);
  for (std::int64_t i = 0; i < n; i += L<T>) store(s + i, c * tanh<T>(load(s + i) * per_c));
}
template <class T>
PEFT_TARGET void scores(const detail::QueryBlock<T>& b, const detail::KeyTile<T>& t) {
  if (t.biased)  // the bias stands in p already
    product<T, true>(t.count, b.width, b.dim, t.k, b.padded, 1, b.qt, b.width, b.p, b.width);
  else
    product<T, false>(t.count, b.width, b.dim, t.k, b.padded, 1, b.qt, b.width, b.p, b.width);
  if (b.softcap > T(0)) cap_scores<T>(b.p, b.softcap, t.count * b.width);
}
template <class T>
PEFT_TARGET void attend(const detail::QueryBlock<T>& b, const detail::KeyTile<T>& t) {
  scores<T>(b, t);
  soften<T>(b, t);
  product<T, true>(b.rows, b.padded, t.count, b.p, 1, b.width, t.v, b.padded, b.o, b.padded);
}

// What a range of keys gave joins what the ranges before it gave, and its place is cleared for the next one. A lane that saw nothing of it
// stays as it is, to the bit.
template <class T>
PEFT_TARGET void join_range(const detail::QueryBlock<T>& b) {
  const V<T> none = broadcast(-std::numeric_limits<T>::infinity());
  for (std::int64_t c = 0; c < b.width; c += L<T>) {
    const V<T> before = load(b.all_largest + c), here = load(b.largest + c), most = max<T>(here, before), from = most > none ? most : V<T>{};
    const V<T> keep = exp<T>(before - from), add = exp<T>(here - from);
    store(b.all_total + c, load(b.all_total + c) * keep + load(b.total + c) * add), store(b.all_largest + c, most);
    store(b.keep + c, keep), store(b.shrink + c, add);
    store(b.largest + c, none), store(b.total + c, V<T>{});
  }
  for (std::int64_t lane = 0; lane < b.lanes; lane++) {
    T *const o = b.o + lane * b.padded, *const all = b.all_o + lane * b.padded;
    const V<T> keep = broadcast(b.keep[lane]), add = broadcast(b.shrink[lane]);
    for (std::int64_t i = 0; i < b.padded; i += L<T>) store(all + i, load(all + i) * keep + load(o + i) * add), store(o + i, V<T>{});
  }
}

// The same for few lanes, as when one token is decoded: keys and values are read once, where they are, and scores stand lanes down and keys
// across. The same chains of FMAs, and the same sums.
template <class T>
PEFT_TARGET void soften_few(const detail::QueryBlock<T>& b, const detail::KeyTile<T>& t) {
  const V<T> none = broadcast(-std::numeric_limits<T>::infinity());
  V<T> number{};
  for (int i = 0; i < L<T>; i++) number[i] = T(i);
  for (std::int64_t lane = 0; lane < b.lanes; lane++) {
    T* const p = b.p + lane * detail::key_tile;
    V<T> m = none;
    for (std::int64_t j = 0; j < t.count; j += L<T>) {
      V<T> s = load(p + j);
      const V<T> at = number + broadcast(T(j));
      if (t.masked) {
        const V<T> seen = at < broadcast(b.last[lane]) ? s : none;
        s = at < broadcast(T(t.context)) ? s : at < broadcast(b.first[lane]) ? none : seen;
      }
      s = at < broadcast(T(t.count)) ? s : none;
      store(p + j, s);
      m = max<T>(s, m);
    }
    const V<T> before = broadcast(b.largest[lane]), most = max<T>(broadcast(largest<T>(m)), before), from = most > none ? most : V<T>{};
    for (std::int64_t j = 0; j < t.count; j += L<T>) store(p + j, exp<T>(load(p + j) - from));
    T s0 = 0, s1 = 0;
    std::int64_t j = 0;
    for (; j + 1 < t.count; j += 2) s0 += p[j], s1 += p[j + 1];
    if (j < t.count) s0 += p[j];
    const T shrink = exp<T>(before - from)[0];
    b.largest[lane] = most[0], b.total[lane] = b.total[lane] * shrink + (s0 + s1);
    if (shrink == T(1)) continue;
    T* const o = b.o + lane * b.padded;
    for (std::int64_t i = 0; i < b.padded; i += L<T>) store(o + i, load(o + i) * broadcast(shrink));
  }
}
template <class T>
PEFT_TARGET void attend_few(const detail::QueryBlock<T>& b, const detail::KeyTile<T>& t) {
  constexpr int W = L<T>;
  for (std::int64_t j = 0; j < t.count; j += W) {
    const T* rows[W];
    for (int i = 0; i < W; i++) rows[i] = t.k_rows[j + i < t.count ? j + i : t.count - 1];
    V<T> s[detail::few_lanes];
    for (std::int64_t lane = 0; lane < b.lanes; lane++) s[lane] = t.biased ? load(b.p + lane * detail::key_tile + j) : V<T>{};
    std::int64_t d = 0;
    for (; d + W <= b.dim; d += W) {
      V<T> r[W];
      _Pragma("GCC unroll 16") for (int i = 0; i < W; i++) r[i] = load(rows[i] + d);
      transpose<T>(r);
      for (std::int64_t lane = 0; lane < b.lanes; lane++) {
        const T* q = b.q + lane * b.padded + d;
        V<T> chain = s[lane];
        _Pragma("GCC unroll 16") for (int i = 0; i < W; i++) chain += r[i] * broadcast(q[i]);
        s[lane] = chain;
      }
    }
    for (; d < b.dim; d++) {
      V<T> r{};
      for (int i = 0; i < W; i++) r[i] = rows[i][d];
      for (std::int64_t lane = 0; lane < b.lanes; lane++) s[lane] += r * broadcast(b.q[lane * b.padded + d]);
    }
    for (std::int64_t lane = 0; lane < b.lanes; lane++) store(b.p + lane * detail::key_tile + j, s[lane]);
  }
  for (std::int64_t lane = 0; b.softcap > T(0) && lane < b.lanes; lane++) cap_scores<T>(b.p + lane * detail::key_tile, b.softcap, t.count);
  soften_few<T>(b, t);
  for (std::int64_t lane = 0; lane < b.lanes; lane += 2) {
    const bool pair = lane + 1 < b.lanes;
    const T *p0 = b.p + lane * detail::key_tile, *p1 = pair ? p0 + detail::key_tile : p0;
    T *const o0 = b.o + lane * b.padded, *const o1 = pair ? o0 + b.padded : b.spare;
    std::int64_t i = 0;
    for (; i + 4 * W <= b.dim; i += 4 * W) {
      V<T> x0 = load(o0 + i), x1 = load(o0 + i + W), x2 = load(o0 + i + 2 * W), x3 = load(o0 + i + 3 * W);
      V<T> y0 = load(o1 + i), y1 = load(o1 + i + W), y2 = load(o1 + i + 2 * W), y3 = load(o1 + i + 3 * W);
      for (std::int64_t j = 0; j < t.count; j++) {
        const T* v = t.v_rows[j] + i;
        const V<T> a = broadcast(p0[j]), c = broadcast(p1[j]);
        const V<T> v0 = load(v), v1 = load(v + W), v2 = load(v + 2 * W), v3 = load(v + 3 * W);
        x0 += a * v0, x1 += a * v1, x2 += a * v2, x3 += a * v3;
        y0 += c * v0, y1 += c * v1, y2 += c * v2, y3 += c * v3;
      }
      store(o0 + i, x0), store(o0 + i + W, x1), store(o0 + i + 2 * W, x2), store(o0 + i + 3 * W, x3);
      store(o1 + i, y0), store(o1 + i + W, y1), store(o1 + i + 2 * W, y2), store(o1 + i + 3 * W, y3);
    }
    for (; i < b.dim; i += W) {
      V<T> x = load(o0 + i), y = load(o1 + i);
      for (std::int64_t j = 0; j < t.count; j++) {
        const V<T> v = i + W <= b.dim ? load(t.v_rows[j] + i) : load_part(t.v_rows[j] + i, b.dim - i);
        x += broadcast(p0[j]) * v, y += broadcast(p1[j]) * v;
      }
      store(o0 + i, x), store(o1 + i, y);
    }
  }
}

// P again from the saved log-sum-exp; dS = P ∘ (dP − Σ dout ∘ out), behind a cap ∘ (1 − (S / c)²). dk and dv (keys, padded), null if nobody wants them.
template <class T>
PEFT_TARGET void attend_backward(const detail::QueryBlock<T>& b, const detail::KeyTile<T>& t, T* dk, T* dv) {
  const std::int64_t w = b.width;
  const bool wants_ds = dk || b.dq || b.wants_ds, capped = b.softcap > T(0);
  const V<T> one = broadcast(T(1)), per_cap = broadcast(capped ? T(1) / b.softcap : T(0));
  scores<T>(b, t);
  if (wants_ds) product<T, false>(t.count, w, b.dim, t.v, b.padded, 1, b.doutt, w, b.ds, w);
  for (std::int64_t c = 0; c < w; c += L<T>) {
    const V<T> lse = load(b.lse + c), delta = load(b.delta + c);
    const V<T> first = t.masked ? load(b.first + c) : V<T>{}, last = t.masked ? load(b.last + c) : V<T>{};
    for (std::int64_t j = 0; j < t.count; j++) {
      const V<T> s = load(b.p + j * w + c);
      V<T> p = exp<T>(s - lse);
      if (t.masked) p = hide<T>(p, t, j, first, last, V<T>{});
      store(b.p + j * w + c, p);
      if (!wants_ds) continue;
      const V<T> ds = p * (load(b.ds + j * w + c) - delta), part = s * per_cap;
      store(b.ds + j * w + c, capped ? ds * (one - part * part) : ds);
    }
  }
  if (dv) product<T, true>(t.count, b.padded, b.lanes, b.p, w, 1, b.dout, b.padded, dv, b.padded);
  if (dk) product<T, true>(t.count, b.padded, b.lanes, b.ds, w, 1, b.q, b.padded, dk, b.padded);
  if (b.dq) product<T, true>(b.rows, b.padded, t.count, b.ds, 1, w, t.k, b.padded, b.dq, b.padded);
}

}  // namespace peft::ops::PEFT_ISA
