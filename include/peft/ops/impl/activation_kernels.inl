// SPDX-License-Identifier: Apache-2.0
// Activations and their gates. Everything that belongs to a register is read before anything of it is written: results may take the
// place of what they come from.
namespace peft::ops::PEFT_ISA {

template <class T>
PEFT_SIMD V<T> take(const T* p, std::int64_t left) {
  return left < L<T> ? load_part(p, left) : load(p);
}
template <class T>
PEFT_SIMD void put(T* p, bool accumulate, V<T> v, std::int64_t left) {
  if (accumulate) v += take(p, left);
  if (left < L<T>)
    store_part(p, v, left);
  else
    store(p, v);
}

template <class T, Activation f>
PEFT_TARGET void activate(std::integral_constant<Activation, f>, T* y, const T* x, std::int64_t n) {
  V<T> value, slope;
  for (std::int64_t i = 0; i < n; i += L<T>) {
    evaluate<T, f>(take(x + i, n - i), value, slope);
    put<T>(y + i, false, value, n - i);
  }
}
template <class T, Activation f>
PEFT_TARGET void activate_backward(std::integral_constant<Activation, f>, T* dx, bool accumulate, const T* dy, const T* x, std::int64_t n) {
  V<T> value, slope;
  for (std::int64_t i = 0; i < n; i += L<T>) {
    const V<T> d = take(dy + i, n - i);
    evaluate<T, f>(take(x + i, n - i), value, slope);
    put<T>(dx + i, accumulate, d * slope, n - i);
  }
}
template <class T, Activation f>
PEFT_TARGET void gate_forward(std::integral_constant<Activation, f>, T* y, const T* gate, const T* up, std::int64_t n) {
  V<T> value, slope;
  for (std::int64_t i = 0; i < n; i += L<T>) {
    const V<T> u = take(up + i, n - i);
    evaluate<T, f>(take(gate + i, n - i), value, slope);
    put<T>(y + i, false, value * u, n - i);
  }
}
template <class T, Activation f>
PEFT_TARGET void gate_backward(std::integral_constant<Activation, f>, T* dgate, bool add_gate, T* dup, bool add_up, const T* dy, const T* gate, const T* up,
                               std::int64_t n) {
  V<T> value, slope;
  for (std::int64_t i = 0; i < n; i += L<T>) {
    const V<T> d = take(dy + i, n - i), u = take(up + i, n - i);
    evaluate<T, f>(take(gate + i, n - i), value, slope);
    if (dgate) put<T>(dgate + i, add_gate, d * u * slope, n - i);
    if (dup) put<T>(dup + i, add_up, d * value, n - i);
  }
}

}  // namespace peft::ops::PEFT_ISA
