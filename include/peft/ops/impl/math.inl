// SPDX-License-Identifier: Apache-2.0
// exp and what is made of it, lane by lane: within 2 units in the last place in float, 1e-15 in double. Polynomials are Chebyshev fits.
namespace peft::ops::PEFT_ISA {

template <class T>
struct exponent;
template <>
struct exponent<float> {
  typedef std::int32_t bits __attribute__((vector_size(PEFT_BYTES)));
  static constexpr int mantissa = 23;
  static constexpr float magic = 0x1.8p23f;  // what is added to it is rounded to an integer in its low bits
  static constexpr float log2e = 0x1.715476p+0f, ln2_high = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;  // n · ln2_high is exact
  static constexpr float lowest = -0x1.5d589ep+6f, highest = 0x1.62e42ep+6f;                         // e^x is normal and finite between them
  static constexpr float p[] = {1.98911802e-4f, 1.39338205e-3f, 8.33331075e-3f, 4.16664634e-2f, 1.66666667e-1f, 5.00000001e-1f};
};
template <>
struct exponent<double> {
  typedef std::int64_t bits __attribute__((vector_size(PEFT_BYTES)));
  static constexpr int mantissa = 52;
  static constexpr double magic = 0x1.8p52;
  static constexpr double log2e = 0x1.71547652b82fep+0, ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
  static constexpr double lowest = -0x1.6232bdd7abcd1p+9, highest = 0x1.62e42fefa39efp+9;
  static constexpr double p[] = {1.6086732952745415e-10, 2.0918295266435273e-9, 2.5052070809943926e-8, 2.7557262852470398e-7,
                                 2.7557319247484929e-6,  2.4801587336841622e-5, 1.984126984126320e-4,  1.3888888888878924e-3,
                                 8.333333333333334e-3,   4.1666666666666677e-2, 1.6666666666666667e-1, 0.5};
};

// x = n ln 2 + r, |r| ≤ ln 2 / 2: returns e^r − 1 = r + r² p(r), and n in the exponent's place.
template <class T>
PEFT_SIMD V<T> exp_reduced(V<T> x, typename exponent<T>::bits& power) {
  using E = exponent<T>;
  const V<T> shifted = x * broadcast(E::log2e) + broadcast(E::magic), n = shifted - broadcast(E::magic);
  const V<T> r = (x - n * broadcast(E::ln2_high)) - n * broadcast(E::ln2_low);
  V<T> p = broadcast(E::p[0]);
  _Pragma("GCC unroll 16") for (unsigned i = 1; i < sizeof(E::p) / sizeof(T); i++) p = p * r + broadcast(E::p[i]);
  power = (typename E::bits)shifted << E::mantissa;
  return (p * r) * r + r;
}

/// e^x; 0 where it would be subnormal, infinity where it is too large, NaN of NaN.
template <class T>
PEFT_SIMD V<T> exp(V<T> x) {
  using E = exponent<T>;
  typename E::bits power;
  const V<T> q = exp_reduced<T>(x, power) + broadcast(T(1));
  V<T> y = (V<T>)((typename E::bits)q + power);
  y = x < broadcast(E::lowest) ? V<T>{} : y;
  return x <= broadcast(E::highest) ? y : x + broadcast(std::numeric_limits<T>::infinity());
}
/// e^x − 1 for |x| ≤ 80, without loss near 0.
template <class T>
PEFT_SIMD V<T> expm1(V<T> x) {
  using E = exponent<T>;
  typename E::bits power;
  const V<T> q = exp_reduced<T>(x, power), one = broadcast(T(1)), scale = (V<T>)((typename E::bits)one + power);
  return q * scale + (scale - one);
}
template <class T>
PEFT_SIMD V<T> sigmoid(V<T> x) {
  return broadcast(T(1)) / (broadcast(T(1)) + exp<T>(-x));
}
// tanh x = (e^2x − 1) / (e^2x + 1)
template <class T>
PEFT_SIMD V<T> tanh(V<T> x) {
  const V<T> limit = broadcast(T(sizeof(T) == 4 ? 10 : 20)), two = broadcast(T(2));
  V<T> c = limit < x ? limit : x;
  c = c < -limit ? -limit : c;
  const V<T> e = expm1<T>(c + c);
  return e / (e + two);
}

/// Φ(x), the normal distribution's integral, and its slope φ(x) = e^(−x²/2) / √(2π).
PEFT_SIMD V<float> normal_integral(V<float> x, V<float>& density) {
  const V<float> one = broadcast(1.0f), magnitude = x < V<float>{} ? -x : x;
  const V<float> e = exp<float>(broadcast(-0.5f) * x * x);
  density = e * broadcast(0.398942280f);
  // erfc(z) = e^(−z²) t p(t), t = 1 / (1 + z/2), z = |x| / √2
  const V<float> t = one / (one + magnitude * broadcast(0.353553391f));
  constexpr float c[] = {0.0386172078f, -0.208440283f, 0.427942192f, -0.361043604f, 0.0476590888f, -0.00940797412f,
                         0.0741075487f, 0.180184034f,  0.246131155f, 0.282158139f,  0.2820924995f};
  V<float> p = broadcast(c[0]);
  _Pragma("GCC unroll 16") for (unsigned i = 1; i < sizeof(c) / sizeof(float); i++) p = p * t + broadcast(c[i]);
  const V<float> tail = broadcast(0.5f) * (e * (t * p));
  return x < V<float>{} ? tail : one - tail;
}
PEFT_SIMD V<double> normal_integral(V<double> x, V<double>& density) {
  density = exp<double>(broadcast(-0.5) * x * x) * broadcast(0.3989422804014327);
  V<double> y = x;
  for (int i = 0; i < L<double>; i++) y[i] = 0.5 * std::erfc(-x[i] * 0.70710678118654752);
  return y;
}

/// f(x) and f′(x) of one register; what is not used costs nothing.
template <class T, Activation f>
PEFT_SIMD void evaluate(V<T> x, V<T>& value, V<T>& slope) {
  const V<T> one = broadcast(T(1)), half = broadcast(T(0.5));
  if constexpr (f == Activation::silu) {
    const V<T> s = sigmoid<T>(x);
    value = x * s, slope = s * (one + x * (one - s));
  } else if constexpr (f == Activation::gelu) {
    V<T> density;
    const V<T> integral = normal_integral(x, density);
    value = x * integral, slope = integral + x * density;
  } else if constexpr (f == Activation::gelu_tanh) {  // x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))
    const V<T> c = broadcast(T(0.7978845608028654)), k = broadcast(T(0.044715));
    const V<T> t = tanh<T>(c * (x + k * x * x * x));
    value = half * x * (one + t);
    slope = half * (one + t) + half * x * (one - t * t) * c * (one + broadcast(T(3)) * k * x * x);
  } else if constexpr (f == Activation::relu) {
    value = x < V<T>{} ? V<T>{} : x, slope = x > V<T>{} ? one : V<T>{};
  } else {
    value = tanh<T>(x), slope = one - value * value;
  }
}

}  // namespace peft::ops::PEFT_ISA
