// SPDX-License-Identifier: Apache-2.0
// Vectors of one register, as GCC and clang spell them: + - * / and comparisons work lane by lane, `c += a * b` contracts to one FMA where
// the instruction set has it, `mask ? a : b` selects. Read once for each instruction set by simd.hpp. PEFT_SIMD marks what must be inlined:
// a vector may be passed and returned by such a function only.
namespace peft::ops::PEFT_ISA {

template <class T>
struct vec {
  // Aligned like one element, so that loads and stores may begin anywhere.
  typedef T type __attribute__((vector_size(PEFT_BYTES), aligned(alignof(T)), may_alias));
  // In memory: tensors of a mapped file need not even be aligned to their elements.
  typedef T anywhere __attribute__((vector_size(PEFT_BYTES), aligned(1), may_alias));
};
template <class T>
using V = typename vec<T>::type;
/// Lanes.
template <class T>
inline constexpr int L = PEFT_BYTES / int(sizeof(T));

template <class T>
PEFT_SIMD V<T> load(const T* p) {
  return *reinterpret_cast<const typename vec<T>::anywhere*>(p);
}
template <class T>
PEFT_SIMD void store(T* p, V<T> v) {
  *reinterpret_cast<typename vec<T>::anywhere*>(p) = v;
}
// a - 0 is a plain broadcast (0 + a is not: 0 + -0 = 0).
template <class T>
PEFT_SIMD V<T> broadcast(T a) {
  return a - V<T>{};
}
/// The first n elements, at most all, the other lanes as in `rest`: what lies behind them in memory is not touched.
template <class T>
PEFT_SIMD V<T> load_part(const T* p, std::int64_t n, V<T> rest = V<T>{}) {
  for (int i = 0; i < L<T> && i < n; i++) {
    T one;
    __builtin_memcpy(&one, p + i, sizeof one);
    rest[i] = one;
  }
  return rest;
}
template <class T>
PEFT_SIMD void store_part(T* p, V<T> v, std::int64_t n) {
  for (int i = 0; i < L<T> && i < n; i++) p[i] = v[i];
}
template <class T>
PEFT_SIMD V<T> max(V<T> a, V<T> b) {
  return a > b ? a : b;
}
template <class T>
PEFT_SIMD V<T> min(V<T> a, V<T> b) {
  return a < b ? a : b;
}

/// Lane i becomes lane i ^ distance.
template <class T, int distance, int... I>
PEFT_SIMD V<T> exchange(V<T> v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, v, (I ^ distance)...);
}
// A tree: the same order on every call.
template <class T, int distance = L<T> / 2>
PEFT_SIMD T sum(V<T> v) {
  v += exchange<T, distance>(v, std::make_integer_sequence<int, L<T>>{});
  if constexpr (distance > 1)
    return sum<T, distance / 2>(v);
  else
    return v[0];
}
template <class T, int distance = L<T> / 2>
PEFT_SIMD T largest(V<T> v) {
  v = max<T>(v, exchange<T, distance>(v, std::make_integer_sequence<int, L<T>>{}));
  if constexpr (distance > 1)
    return largest<T, distance / 2>(v);
  else
    return v[0];
}

}  // namespace peft::ops::PEFT_ISA
