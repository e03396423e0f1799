// SPDX-License-Identifier: Apache-2.0
// What passes over memory once. What is left of a row behind the last whole register goes through a register too, so that every element
// sees the same arithmetic wherever it stands.
namespace peft::ops::PEFT_ISA {

// y = alpha · x + beta · y;  beta = 0: y need not be initialised
template <class T>
PEFT_TARGET void row_scale_add(T* y, T alpha, const T* x, T beta, std::int64_t n) {
  const V<T> a = broadcast(alpha), b = broadcast(beta);
  std::int64_t i = 0;
  if (beta == T(0)) {
    for (; i + L<T> <= n; i += L<T>) store(y + i, a * load(x + i));
    if (i < n) store_part(y + i, a * load_part(x + i, n - i), n - i);
  } else {
    for (; i + L<T> <= n; i += L<T>) store(y + i, a * load(x + i) + b * load(y + i));
    if (i < n) store_part(y + i, a * load_part(x + i, n - i) + b * load_part(y + i, n - i), n - i);
  }
}
template <class T>
PEFT_TARGET void row_add(T* y, const T* a, const T* b, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) store(y + i, load(a + i) + load(b + i));
  if (i < n) store_part(y + i, load_part(a + i, n - i) + load_part(b + i, n - i), n - i);
}
template <class T>
PEFT_TARGET void row_multiply(T* y, const T* a, const T* b, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) store(y + i, load(a + i) * load(b + i));
  if (i < n) store_part(y + i, load_part(a + i, n - i) * load_part(b + i, n - i), n - i);
}

// L<double> elements as double.
PEFT_SIMD V<double> as_double(const double* x) { return load(x); }
PEFT_SIMD V<double> as_double(const float* x) {
  typedef float half __attribute__((vector_size(PEFT_BYTES / 2), aligned(4), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const half*>(x), V<double>);
}
// Σ x², in double
template <class T>
PEFT_TARGET double row_squares(const T* x, std::int64_t n) {
  constexpr int W = L<double>;
  V<double> s0{}, s1{}, s2{}, s3{};
  std::int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W) {
    const V<double> a = as_double(x + i), b = as_double(x + i + W), c = as_double(x + i + 2 * W), d = as_double(x + i + 3 * W);
    s0 += a * a, s1 += b * b, s2 += c * c, s3 += d * d;
  }
  double total = sum<double>((s0 + s1) + (s2 + s3));
  for (; i < n; i++) total += double(x[i]) * double(x[i]);
  return total;
}
// Σ 0 · x: 0, or NaN if anything is infinite or NaN
template <class T>
PEFT_TARGET T row_zero_if_finite(const T* x, std::int64_t n) {
  V<T> s0{}, s1{};
  std::int64_t i = 0;
  for (; i + 2 * L<T> <= n; i += 2 * L<T>) s0 += load(x + i) * V<T>{}, s1 += load(x + i + L<T>) * V<T>{};
  for (; i < n; i += L<T>) s0 += load_part(x + i, n - i) * V<T>{};
  return sum<T>(s0 + s1);
}

template <class T>
PEFT_TARGET T row_max(const T* x, std::int64_t n) {
  const V<T> none = broadcast(-std::numeric_limits<T>::infinity());
  V<T> m0 = none, m1 = none;
  std::int64_t i = 0;
  for (; i + 2 * L<T> <= n; i += 2 * L<T>) m0 = max<T>(load(x + i), m0), m1 = max<T>(load(x + i + L<T>), m1);
  for (; i < n; i += L<T>) m0 = max<T>(load_part(x + i, n - i, none), m0);
  return largest<T>(max<T>(m0, m1));
}
// y = c tanh(x / c), and unless it is null slope = 1 − (y / c)². y may be x.
template <class T>
PEFT_TARGET void row_softcap(T* y, T* slope, const T* x, T cap, std::int64_t n) {
  const V<T> c = broadcast(cap), per_c = broadcast(T(1) / cap), one = broadcast(T(1));
  for (std::int64_t i = 0; i < n; i += L<T>) {
    const std::int64_t left = n - i;
    const V<T> t = tanh<T>((left < L<T> ? load_part(x + i, left) : load(x + i)) * per_c);
    if (left < L<T>) {
      store_part(y + i, c * t, left);
      if (slope) store_part(slope + i, one - t * t, left);
    } else {
      store(y + i, c * t);
      if (slope) store(slope + i, one - t * t);
    }
  }
}
// dx = dy ∘ (1 − (y / c)²); dx may be dy.
template <class T>
PEFT_TARGET void row_softcap_backward(T* dx, const T* dy, const T* y, T cap, std::int64_t n) {
  const V<T> per_c = broadcast(T(1) / cap), one = broadcast(T(1));
  for (std::int64_t i = 0; i < n; i += L<T>) {
    const std::int64_t left = n - i;
    const V<T> t = (left < L<T> ? load_part(y + i, left) : load(y + i)) * per_c;
    const V<T> d = (left < L<T> ? load_part(dy + i, left) : load(dy + i)) * (one - t * t);
    if (left < L<T>)
      store_part(dx + i, d, left);
    else
      store(dx + i, d);
  }
}
// Σ e^(x − shift);  y = factor · e^(x − shift), unless it is null. y may be x.
template <class T>
PEFT_TARGET T row_exp(T* y, const T* x, T shift, T factor, std::int64_t n) {
  const V<T> m = broadcast(shift), f = broadcast(factor);
  V<T> s0{}, s1{};
  std::int64_t i = 0;
  for (; i + 2 * L<T> <= n; i += 2 * L<T>) {
    const V<T> a = exp<T>(load(x + i) - m), b = exp<T>(load(x + i + L<T>) - m);
    if (y) store(y + i, a * f), store(y + i + L<T>, b * f);
    s0 += a, s1 += b;
  }
  for (; i < n; i += L<T>) {
    const std::int64_t left = n - i;
    const V<T> e = exp<T>(load_part(x + i, left, broadcast(-std::numeric_limits<T>::infinity())) - m);
    if (y) store_part(y + i, e * f, left);
    s0 += e;
  }
  return sum<T>(s0 + s1);
}
template <class T>
PEFT_TARGET void row_shift(T* x, T shift, std::int64_t n) {
  const V<T> m = broadcast(shift);
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) store(x + i, load(x + i) - m);
  if (i < n) store_part(x + i, load_part(x + i, n - i) - m, n - i);
}

}  // namespace peft::ops::PEFT_ISA
