// SPDX-License-Identifier: Apache-2.0
// core/random.hpp's Philox4x32-10 for as many counters at once as a register holds: one in each 64-bit lane, its words in the lower halves.
namespace peft::ops::PEFT_ISA {

typedef std::uint64_t Lanes __attribute__((vector_size(PEFT_BYTES), aligned(8), may_alias));

// a · b of the lower halves
PEFT_SIMD Lanes product_of_halves(Lanes a, Lanes b) {
#if defined(__clang__)
  return (a & 0xffffffff) * (b & 0xffffffff);  // which it knows for what it is
#elif defined(__x86_64__) && PEFT_BYTES == 32
  typedef int words __attribute__((vector_size(32)));
  return (Lanes)__builtin_ia32_pmuludq256((words)a, (words)b);
#elif defined(__x86_64__) && PEFT_BYTES == 16
  typedef int words __attribute__((vector_size(16)));
  return (Lanes)__builtin_ia32_pmuludq128((words)a, (words)b);
#else
  return a * b;
#endif
}
template <int... I>
PEFT_SIMD Lanes interleave(Lanes a, Lanes b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I / 2 + I % 2 * int(sizeof...(I)))...);
}

// Four words each for the counters (row, block), (row, block + 1), …
PEFT_SIMD void random_words(std::uint32_t* to, std::uint64_t key, std::uint64_t row, std::uint64_t block) {
  constexpr int W = PEFT_BYTES / 8;
  const Lanes none{}, low = none + 0xffffffff;
  Lanes c0 = none + (row & 0xffffffff), c1 = none + (row >> 32), c2 = none + block;
  for (int i = 0; i < W; i++) c2[i] += std::uint64_t(i);
  Lanes c3 = c2 >> 32;
  c2 &= low;
  std::uint32_t k0 = std::uint32_t(key), k1 = std::uint32_t(key >> 32);
  for (int round = 0; round < 10; round++) {
    const Lanes p0 = product_of_halves(c0, none + 0xD2511F53ull), p1 = product_of_halves(c2, none + 0xCD9E8D57ull);
    c0 = (p1 >> 32) ^ c1 ^ (none + k0), c1 = p1 & low;
    c2 = (p0 >> 32) ^ c3 ^ (none + k1), c3 = p0 & low;
    k0 += 0x9E3779B9, k1 += 0xBB67AE85;
  }
  const Lanes first = c0 | c1 << 32, second = c2 | c3 << 32;
  constexpr int H = W / 2;
  const Lanes a = interleave(first, second, std::make_integer_sequence<int, W>{});
  Lanes upper_first = first, upper_second = second;
  for (int i = 0; i < H; i++) upper_first[i] = first[i + H], upper_second[i] = second[i + H];
  const Lanes b = interleave(upper_first, upper_second, std::make_integer_sequence<int, W>{});
  *reinterpret_cast<Lanes*>(to) = a, *reinterpret_cast<Lanes*>(to + 2 * W) = b;
}

// y = x · kept where the element's word is at least `limit`, else 0
template <class T>
PEFT_TARGET void row_dropout(T* y, const T* x, std::int64_t n, std::uint64_t key, std::uint64_t row, std::uint32_t limit, T kept) {
  constexpr int W = PEFT_BYTES / 2;  // words at once
  alignas(64) std::uint32_t words[W];
  for (std::int64_t c = 0; c < n; c += W) {
    random_words(words, key, row, std::uint64_t(c / 4));
    const std::int64_t left = n - c;
    if constexpr (sizeof(T) == 4) {
      if (left >= W) {
        typedef std::uint32_t bits __attribute__((vector_size(PEFT_BYTES)));
        const V<T> f = broadcast(kept);
        _Pragma("GCC unroll 2") for (int i = 0; i < W; i += L<T>) {
          const bits r = *reinterpret_cast<const bits*>(words + i);
          const V<T> v = load(x + c + i) * f;
          store(y + c + i, r >= bits{} + limit ? v : V<T>{});
        }
        continue;
      }
    }
    for (int i = 0; i < W && i < left; i++) y[c + i] = words[i] >= limit ? x[c + i] * kept : T(0);
  }
}

}  // namespace peft::ops::PEFT_ISA
