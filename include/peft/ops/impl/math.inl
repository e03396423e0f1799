// SPDX-License-Identifier: Apache-2.0
// exp by range reduction, x = n ln 2 + r with |r| ≤ ln 2 / 2, and a polynomial in r; 2^n goes into the exponent's bits. float: within
// 2 units in the last place; double: std::exp, lane by lane (it is there to check the others).
namespace peft::ops::PEFT_ISA {

template <class T>
struct bits_of;
template <>
struct bits_of<float> {
  typedef std::int32_t type __attribute__((vector_size(PEFT_BYTES)));
};
template <>
struct bits_of<double> {
  typedef std::int64_t type __attribute__((vector_size(PEFT_BYTES)));
};

PEFT_SIMD V<float> exp(V<float> x) {
  x = min<float>(x, broadcast(88.3762f));
  const V<float> floor = broadcast(-87.3365f);
  const auto tiny = x < floor;
  x = max<float>(x, floor);
  const V<float> magic = broadcast(12582912.0f);  // 1.5 · 2²³: what is added to it is rounded to an integer in its low bits
  const V<float> shifted = x * broadcast(1.44269504f) + magic, n = shifted - magic;
  const V<float> r = (x - n * broadcast(0.693359375f)) - n * broadcast(-2.12194440e-4f);
  V<float> p = broadcast(1.9875691500e-4f);
  p = p * r + broadcast(1.3981999507e-3f);
  p = p * r + broadcast(8.3334519073e-3f);
  p = p * r + broadcast(4.1665795894e-2f);
  p = p * r + broadcast(1.6666665459e-1f);
  p = p * r + broadcast(5.0000001201e-1f);
  p = (p * r) * r + r + broadcast(1.0f);
  using B = typename bits_of<float>::type;
  const V<float> y = (V<float>)((B)p + ((B)shifted << 23));
  return tiny ? V<float>{} : y;
}
PEFT_SIMD V<double> exp(V<double> x) {
  V<double> y = x;
  for (int i = 0; i < L<double>; i++) y[i] = std::exp(x[i]);
  return y;
}

template <class T>
PEFT_SIMD V<T> sigmoid(V<T> x) {
  return broadcast(T(1)) / (broadcast(T(1)) + exp(-x));
}
// tanh x = 2 σ(2x) − 1 loses digits near 0, where the series is used.
template <class T>
PEFT_SIMD V<T> tanh(V<T> x) {
  V<T> y = x;
  for (int i = 0; i < L<T>; i++) y[i] = std::tanh(x[i]);
  return y;
}
PEFT_SIMD V<float> tanh_fast(V<float> x) {
  const V<float> e = exp(min<float>(max<float>(x, broadcast(-20.0f)), broadcast(20.0f)) * broadcast(2.0f)), one = broadcast(1.0f);
  const V<float> large = (e - one) / (e + one), s = x * x;
  // x − x³/3 + 2x⁵/15 − 17x⁷/315
  const V<float> small = x * (one + s * (broadcast(-0.33333334f) + s * (broadcast(0.13333334f) + s * broadcast(-0.05396825f))));
  return s < broadcast(0.01f) ? small : large;
}
PEFT_SIMD V<double> tanh_fast(V<double> x) { return tanh<double>(x); }

/// f(x) and f′(x) of one register.
template <class T, Activation f>
PEFT_SIMD void evaluate(V<T> x, V<T>& value, V<T>& slope) {
  const V<T> one = broadcast(T(1)), half = broadcast(T(0.5));
  if constexpr (f == Activation::silu) {
    const V<T> s = sigmoid<T>(x);
    value = x * s, slope = s * (one + x * (one - s));
  } else if constexpr (f == Activation::gelu_tanh) {
    const V<T> c = broadcast(T(0.7978845608028654)), k = broadcast(T(0.044715));
    const V<T> t = tanh_fast(c * (x + k * x * x * x));
    value = half * x * (one + t);
    slope = half * (one + t) + half * x * (one - t * t) * c * (one + broadcast(T(3)) * k * x * x);
  } else if constexpr (f == Activation::gelu) {
    const V<T> density = exp(-half * x * x) * broadcast(T(0.3989422804014327));
    V<T> phi = x;
    for (int i = 0; i < L<T>; i++) phi[i] = T(0.5) * std::erfc(-x[i] * T(0.7071067811865476));
    value = x * phi, slope = phi + x * density;
  } else if constexpr (f == Activation::relu) {
    const auto on = x > V<T>{};
    value = on ? x : V<T>{}, slope = on ? one : V<T>{};
  } else {
    value = tanh_fast(x), slope = one - value * value;
  }
}

}  // namespace peft::ops::PEFT_ISA
