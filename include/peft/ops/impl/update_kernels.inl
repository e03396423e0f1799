// SPDX-License-Identifier: Apache-2.0
namespace peft::ops::PEFT_ISA {

template <class T>
PEFT_TARGET void row_adamw(T* p, T* m, T* v, const T* g, T decay, T beta1, T rest1, T beta2, T rest2, T step_size, T root_bias2, T eps, std::int64_t n) {
  const V<T> d = broadcast(decay), b1 = broadcast(beta1), b2 = broadcast(beta2), c1 = broadcast(rest1), c2 = broadcast(rest2), s = broadcast(step_size),
             r = broadcast(root_bias2), e = broadcast(eps);
  for (std::int64_t i = 0; i < n; i += L<T>) {
    const std::int64_t left = n - i;
    const bool whole = left >= L<T>;
    const V<T> gi = whole ? load(g + i) : load_part(g + i, left);
    const V<T> mi = b1 * (whole ? load(m + i) : load_part(m + i, left)) + c1 * gi;
    const V<T> vi = b2 * (whole ? load(v + i) : load_part(v + i, left)) + c2 * gi * gi;
    V<T> root = vi;
    for (int k = 0; k < L<T>; k++) root[k] = std::sqrt(vi[k]);
    const V<T> pi = (whole ? load(p + i) : load_part(p + i, left)) * d - s * (mi / (root / r + e));
    if (whole) {
      store(m + i, mi), store(v + i, vi), store(p + i, pi);
    } else {
      store_part(m + i, mi, left), store_part(v + i, vi, left), store_part(p + i, pi, left);
    }
  }
}

}  // namespace peft::ops::PEFT_ISA
