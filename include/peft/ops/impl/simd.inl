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
/// The first half of the lanes; the others are 0.
template <class T, int... I>
PEFT_SIMD V<T> load_half(const T* p, std::integer_sequence<int, I...>) {
  typedef T Half __attribute__((vector_size(PEFT_BYTES / 2)));
  Half half;
  __builtin_memcpy(&half, p, sizeof half);
  return __builtin_shufflevector(half, Half{}, I...);
}
template <class T>
PEFT_SIMD V<T> load_half(const T* p) {
  return load_half(p, std::make_integer_sequence<int, L<T>>{});
}
template <class T>
PEFT_SIMD void store_part(T* p, V<T> v, std::int64_t n) {
  for (int i = 0; i < L<T> && i < n; i++) p[i] = v[i];
}
/// Loads v once: compilers take an operand of several FMAs from memory each time, and then the loads, not the FMAs, bound a loop.
template <class T>
PEFT_SIMD void in_register([[maybe_unused]] V<T>& v) {
#if defined(__x86_64__) && PEFT_BYTES == 64
  __asm__("" : "+v"(v));
#endif
}
template <class T>
PEFT_SIMD V<T> max(V<T> a, V<T> b) {
  return a > b ? a : b;
}
template <class T>
PEFT_SIMD V<T> min(V<T> a, V<T> b) {
  return a < b ? a : b;
}

// log2(L) riffles transpose L vectors.
template <class T, int... I>
PEFT_SIMD void riffle(V<T>* r, std::integer_sequence<int, I...>) {
  V<T> t[L<T>];
  constexpr int H = L<T> / 2;
  _Pragma("GCC unroll 16") for (int i = 0; i < H; i++) {
    t[2 * i] = __builtin_shufflevector(r[i], r[i + H], (I / 2 + I % 2 * L<T>)...);
    t[2 * i + 1] = __builtin_shufflevector(r[i], r[i + H], (H + I / 2 + I % 2 * L<T>)...);
  }
  _Pragma("GCC unroll 16") for (int i = 0; i < L<T>; i++) r[i] = t[i];
}
template <class T>
PEFT_SIMD void transpose(V<T>* r) {
  _Pragma("GCC unroll 4") for (int i = 1; i < L<T>; i *= 2) riffle<T>(r, std::make_integer_sequence<int, L<T>>{});
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
// Lane i of the result: lanes 2 g … of a or b folded in halves of `g`, first a's, then b's.
template <class T, int g, int... I>
PEFT_SIMD V<T> fold_two(V<T> a, V<T> b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I / g * 2 * g + I % g)...) + __builtin_shufflevector(a, b, (I / g * 2 * g + I % g + g)...);
}
/// out[i] = sum(v[i]) for `count` (a power of two, at most the lanes) vectors, each by the tree of `sum` and so with its bits: the trees
/// of two vectors share each addition.
template <class T, int count, int g = L<T> / 2>
PEFT_SIMD void sums_of(T* out, V<T>* v) {
  constexpr auto lanes = std::make_integer_sequence<int, L<T>>{};
  if constexpr (g == 0) {
    for (int i = 0; i < count; i++) store(out + i * L<T>, v[i]);
  } else if constexpr (count > 1) {
    _Pragma("GCC unroll 16") for (int i = 0; i < count / 2; i++) v[i] = fold_two<T, g>(v[2 * i], v[2 * i + 1], lanes);
    sums_of<T, count / 2, g / 2>(out, v);
  } else {
    v[0] += exchange<T, g>(v[0], lanes);
    sums_of<T, 1, g / 2>(out, v);
  }
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
