// SPDX-License-Identifier: Apache-2.0
// Rotations of pairs: (a, b) ← (a c − b s, b c + a s)
namespace peft::ops::PEFT_ISA {

// The pair is (i, i + half).
template <class T>
PEFT_SIMD void rotate_halves(T* x, const T* cos, const T* sin, V<T> direction, std::int64_t half) {
  for (std::int64_t i = 0; i < half; i += L<T>) {
    const std::int64_t left = half - i;
    if (left < L<T>) {
      const V<T> a = load_part(x + i, left), b = load_part(x + half + i, left), c = load_part(cos + i, left), s = load_part(sin + i, left) * direction;
      store_part(x + i, a * c - b * s, left);
      store_part(x + half + i, b * c + a * s, left);
      break;
    }
    const V<T> a = load(x + i), b = load(x + half + i), c = load(cos + i), s = load(sin + i) * direction;
    store(x + i, a * c - b * s);
    store(x + half + i, b * c + a * s);
  }
}
// Half a register of p, each element twice: p0 p0 p1 p1 …
template <class T, int... I>
PEFT_SIMD V<T> load_twice(const T* p, std::int64_t left, std::integer_sequence<int, I...>) {
  typedef T half __attribute__((vector_size(PEFT_BYTES / 2), aligned(alignof(T)), may_alias));
  half h{};
  if (left >= L<T> / 2)
    h = *reinterpret_cast<const half*>(p);
  else
    for (std::int64_t i = 0; i < left; i++) h[i] = p[i];
  return __builtin_shufflevector(h, h, (I / 2)...);
}
// The pair is (2i, 2i + 1); direction alternates: −, +, −, …
template <class T>
PEFT_SIMD void rotate_neighbours(T* x, const T* cos, const T* sin, V<T> direction, std::int64_t half) {
  constexpr int H = L<T> / 2;
  const auto lanes = std::make_integer_sequence<int, L<T>>{};
  for (std::int64_t i = 0; i < half; i += H) {
    const std::int64_t left = half - i;
    const V<T> c = load_twice(cos + i, left, lanes), s = load_twice(sin + i, left, lanes) * direction;
    const V<T> v = left < H ? load_part(x + 2 * i, 2 * left) : load(x + 2 * i);
    const V<T> turned = v * c + exchange<T, 1>(v, lanes) * s;
    if (left < H)
      store_part(x + 2 * i, turned, 2 * left);
    else
      store(x + 2 * i, turned);
  }
}

// All heads of one row.
template <class T>
PEFT_TARGET void rotate_row(T* x, std::int64_t heads, std::int64_t head_dim, const T* cos, const T* sin, T direction, std::int64_t half, bool interleaved) {
  V<T> d = broadcast(direction);
  if (interleaved)
    for (int i = 0; i < L<T>; i += 2) d[i] = -direction;
  for (std::int64_t h = 0; h < heads; h++, x += head_dim) {
    if (interleaved)
      rotate_neighbours<T>(x, cos, sin, d, half);
    else
      rotate_halves<T>(x, cos, sin, d, half);
  }
}

}  // namespace peft::ops::PEFT_ISA
