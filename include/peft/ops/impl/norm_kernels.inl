// SPDX-License-Identifier: Apache-2.0
// Norms, row by row. A row's sums run over four registers of partial sums and a tree: always in the same order.
namespace peft::ops::PEFT_ISA {

// Σ (x − shift)²
template <class T>
PEFT_TARGET T centred_squares(const T* x, T shift, std::int64_t n) {
  const V<T> m = broadcast(shift);
  V<T> s0{}, s1{}, s2{}, s3{};
  std::int64_t i = 0;
  for (; i + 4 * L<T> <= n; i += 4 * L<T>) {
    const V<T> a = load(x + i) - m, b = load(x + i + L<T>) - m, c = load(x + i + 2 * L<T>) - m, d = load(x + i + 3 * L<T>) - m;
    s0 += a * a, s1 += b * b, s2 += c * c, s3 += d * d;
  }
  for (; i < n; i += L<T>) {
    const V<T> a = (n - i < L<T> ? load_part(x + i, n - i, m) : load(x + i)) - m;
    s0 += a * a;
  }
  return sum<T>((s0 + s1) + (s2 + s3));
}
template <class T>
PEFT_TARGET T sum_of(const T* x, std::int64_t n) {
  V<T> s0{}, s1{}, s2{}, s3{};
  std::int64_t i = 0;
  for (; i + 4 * L<T> <= n; i += 4 * L<T>) s0 += load(x + i), s1 += load(x + i + L<T>), s2 += load(x + i + 2 * L<T>), s3 += load(x + i + 3 * L<T>);
  for (; i < n; i += L<T>) s0 += n - i < L<T> ? load_part(x + i, n - i) : load(x + i);
  return sum<T>((s0 + s1) + (s2 + s3));
}

template <class T>
PEFT_TARGET T one_over_root(T x) {
  if constexpr (sizeof(T) == 4)
    return 1 / __builtin_sqrtf(x);
  else
    return 1 / __builtin_sqrt(x);
}

// Rows begin … end of y = (x − mean) · inv ∘ (w + offset) + b. Statistics of row i at statistics[i · step]: mean and inv, or inv alone.
template <class T>
PEFT_TARGET void norm_forward(const detail::NormRows<T>& r, std::int64_t begin, std::int64_t end) {
  const V<T> o = broadcast(r.offset);
  for (std::int64_t row = begin; row < end; row++) {
    const T* x = r.x + row * r.x_stride;
    T* y = r.y + row * r.y_stride;
    const T mean = r.centred ? sum_of(x, r.n) / T(r.n) : T(0);
    const T inv = one_over_root(centred_squares(x, mean, r.n) / T(r.n) + r.eps);
    T* statistics = r.statistics + row * r.statistics_stride;
    if (r.centred) *statistics++ = mean;
    *statistics = inv;
    const V<T> m = broadcast(mean), s = broadcast(inv);
    for (std::int64_t i = 0; i < r.n; i += L<T>) {
      const std::int64_t left = r.n - i;
      if (left < L<T>) {
        V<T> v = (load_part(x + i, left) - m) * s * (load_part(r.w + i, left) + o);
        if (r.b) v += load_part(r.b + i, left);
        store_part(y + i, v, left);
        break;
      }
      V<T> v = (load(x + i) - m) * s * (load(r.w + i) + o);
      if (r.b) v += load(r.b + i);
      store(y + i, v);
    }
  }
}

// g = dy ∘ (w + offset) and x̂ = (x − mean) · inv of one register
template <class T>
PEFT_SIMD void norm_terms(const T* x, const T* dy, const T* w, V<T> mean, V<T> inv, V<T> offset, std::int64_t left, V<T>& d, V<T>& g, V<T>& h) {
  if (left < L<T>) {
    d = load_part(dy, left), g = d * (load_part(w, left) + offset), h = (load_part(x, left, mean) - mean) * inv;
  } else {
    d = load(dy), g = d * (load(w) + offset), h = (load(x) - mean) * inv;
  }
}
template <class T>
PEFT_SIMD void norm_put(T* to, bool accumulate, V<T> v, std::int64_t left) {
  if (left < L<T>)
    store_part(to, accumulate ? v + load_part(to, left) : v, left);
  else
    store(to, accumulate ? v + load(to) : v);
}

// Rows begin … end:  dx = inv · (g − mean(g) − x̂ · mean(g ∘ x̂)) where it is wanted, dw += Σ dy ∘ x̂ and db += Σ dy where they are.
template <class T>
PEFT_TARGET void norm_backward(const detail::NormRows<T>& r, T* dw, T* db, std::int64_t begin, std::int64_t end) {
  const V<T> o = broadcast(r.offset);
  V<T> d, g, h;
  for (std::int64_t row = begin; row < end; row++) {
    const T *x = r.x + row * r.x_stride, *dy = r.dy + row * r.dy_stride, *statistics = r.statistics + row * r.statistics_stride;
    const V<T> m = broadcast(r.centred ? statistics[0] : T(0)), s = broadcast(statistics[r.centred ? 1 : 0]);
    V<T> g0{}, g1{}, h0{}, h1{};
    for (std::int64_t i = 0; i < r.n; i += L<T>) {
      norm_terms<T>(x + i, dy + i, r.w + i, m, s, o, r.n - i, d, g, h);
      if (i / L<T> % 2 == 0)
        g0 += g, h0 += g * h;
      else
        g1 += g, h1 += g * h;
      if (dw) norm_put<T>(dw + i, true, d * h, r.n - i);
      if (db) norm_put<T>(db + i, true, d, r.n - i);
    }
    if (!r.y) continue;
    const V<T> mean_g = broadcast(r.centred ? sum<T>(g0 + g1) / T(r.n) : T(0)), mean_gh = broadcast(sum<T>(h0 + h1) / T(r.n));
    T* dx = r.y + row * r.y_stride;
    for (std::int64_t i = 0; i < r.n; i += L<T>) {
      norm_terms<T>(x + i, dy + i, r.w + i, m, s, o, r.n - i, d, g, h);
      norm_put<T>(dx + i, r.accumulate, s * (g - mean_g - h * mean_gh), r.n - i);
    }
  }
}

}  // namespace peft::ops::PEFT_ISA
