// SPDX-License-Identifier: Apache-2.0
// Storage types as vectors of float. Read once for each instruction set by quantized_kernels.hpp.
// Every block type is read in units of 32 elements, so rows may be cut there. The products of scales and codes are exact in float32
// (11 + 6 + 6 bits at most), so an FMA gives the bits that ggml's multiplication and addition give.
namespace peft::ops::PEFT_ISA {

using Bytes = const std::uint8_t*;
using Ints = V<std::int32_t>;
using Floats = V<float>;
inline constexpr int unit_vectors = 32 / L<float>;

#if !defined(__clang__) && defined(__x86_64__)
// The first n ≤ 8 bytes of a register. As an element of a vector: copied into one, g++ 12 writes 8 bytes to memory and reads 16, which
// has to wait until the store is through.
typedef char Whole __attribute__((vector_size(16)));
template <class Word>
PEFT_SIMD Whole beginning(Bytes p) {
  typedef Word Words __attribute__((vector_size(16)));
  Word first;
  __builtin_memcpy(&first, p, sizeof first);
  return Whole(Words{first});
}
#endif

// L unsigned (signed) bytes, L 16-bit words, as 32-bit lanes. g++ 12 makes poor code of a conversion of vectors, so it is told the
// instruction by its builtin; an intrinsic would carry its unit's -march flags, and could not be inlined where a target subtracts.
PEFT_SIMD Ints bytes(Bytes p) {
#if defined(__clang__) || !defined(__x86_64__)
  typedef std::uint8_t Narrow __attribute__((vector_size(PEFT_BYTES / 4)));
  Narrow n;
  __builtin_memcpy(&n, p, sizeof n);
  return __builtin_convertvector(n, Ints);
#elif PEFT_BYTES == 64
  typedef int Words __attribute__((vector_size(64)));
  Whole w;
  __builtin_memcpy(&w, p, sizeof w);
  return Ints(__builtin_ia32_pmovzxbd512_mask(w, Words{}, short(-1)));
#elif PEFT_BYTES == 32
  return Ints(__builtin_ia32_pmovzxbd256(beginning<long long>(p)));
#else
  return Ints(__builtin_shufflevector(beginning<int>(p), Whole{}, 0, 16, 16, 16, 1, 16, 16, 16, 2, 16, 16, 16, 3, 16, 16, 16));
#endif
}
PEFT_SIMD Ints signed_bytes(Bytes p) {
#if defined(__clang__) || !defined(__x86_64__)
  typedef std::int8_t Narrow __attribute__((vector_size(PEFT_BYTES / 4)));
  Narrow n;
  __builtin_memcpy(&n, p, sizeof n);
  return __builtin_convertvector(n, Ints);
#elif PEFT_BYTES == 64
  typedef int Words __attribute__((vector_size(64)));
  Whole w;
  __builtin_memcpy(&w, p, sizeof w);
  return Ints(__builtin_ia32_pmovsxbd512_mask(w, Words{}, short(-1)));
#elif PEFT_BYTES == 32
  return Ints(__builtin_ia32_pmovsxbd256(beginning<long long>(p)));
#else
  return bytes(p) << 24 >> 24;
#endif
}
PEFT_SIMD Ints words(Bytes p) {
  typedef std::uint16_t Narrow __attribute__((vector_size(PEFT_BYTES / 2)));
  Narrow n;
  __builtin_memcpy(&n, p, sizeof n);
#if defined(__clang__) || !defined(__x86_64__)
  return __builtin_convertvector(n, Ints);
#elif PEFT_BYTES == 64
  typedef short Sixteen __attribute__((vector_size(32)));
  typedef int Words __attribute__((vector_size(64)));
  return Ints(__builtin_ia32_pmovzxwd512_mask(Sixteen(n), Words{}, short(-1)));
#elif PEFT_BYTES == 32
  typedef short Eight __attribute__((vector_size(16)));
  return Ints(__builtin_ia32_pmovzxwd256(Eight(n)));
#else
  return Ints(__builtin_shufflevector(beginning<long long>(p), Whole{}, 0, 1, 16, 16, 2, 3, 16, 16, 4, 5, 16, 16, 6, 7, 16, 16));
#endif
}
PEFT_SIMD Floats floats(Ints i) { return __builtin_convertvector(i, Floats); }

// binary16: the exponent is put right by a product with 2¹¹², which makes subnormals normal; infinity and NaN keep the highest exponent.
#if defined(__x86_64__) && PEFT_BYTES > 16
typedef short HalfLanes __attribute__((vector_size(PEFT_BYTES / 2)));
PEFT_SIMD Floats halves(HalfLanes n) {
  typedef float Wide __attribute__((vector_size(PEFT_BYTES)));
#if PEFT_BYTES == 64
  constexpr int as_the_register_says = 4;
#if defined(__clang__)
  constexpr unsigned short every_lane = 0xffff;
#else
  constexpr short every_lane = -1;
#endif
  return Floats(__builtin_ia32_vcvtph2ps512_mask(n, Wide{}, every_lane, as_the_register_says));
#else
  return Floats(Wide(__builtin_ia32_vcvtph2ps256(n)));
#endif
}
PEFT_SIMD Floats halves(Bytes p) {
  HalfLanes n;
  __builtin_memcpy(&n, p, sizeof n);
  return halves(n);
}
// The low halves of the lanes.
PEFT_SIMD Floats halves(Ints h) { return halves(__builtin_convertvector(h, HalfLanes)); }
#else
PEFT_SIMD Floats halves(Ints h) {
  const Ints magnitude = (h & 0x7fff) << 13;
  const Ints finite = Ints(Floats(magnitude) * 0x1p112f), infinite = magnitude | 0x7f800000;
  return Floats((magnitude >= (0x7c00 << 13) ? infinite : finite) | (h & 0x8000) << 16);
}
PEFT_SIMD Floats halves(Bytes p) { return halves(words(p)); }
#endif
PEFT_SIMD float half(Bytes p) {
  std::uint16_t h;
  __builtin_memcpy(&h, p, 2);
#if defined(__x86_64__) && PEFT_BYTES > 16
  typedef short Eight __attribute__((vector_size(16)));
  return __builtin_ia32_vcvtph2ps(Eight{short(h)})[0];
#else
  const std::uint32_t magnitude = std::uint32_t(h & 0x7fff) << 13;
  std::uint32_t bits = magnitude | 0x7f800000;
  float value;
  __builtin_memcpy(&value, &magnitude, 4);
  value *= 0x1p112f;
  if (magnitude < 0x7c00u << 13) __builtin_memcpy(&bits, &value, 4);
  bits |= std::uint32_t(h & 0x8000) << 16;
  __builtin_memcpy(&value, &bits, 4);
  return value;
#endif
}

// The six-bit scale and minimum of sub-block j in Q4_K and Q5_K.
PEFT_SIMD void scale_and_minimum(Bytes s, int j, int& scale, int& minimum) {
  if (j < 4)
    scale = s[j] & 63, minimum = s[j + 4] & 63;
  else
    scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4, minimum = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
}

#if defined(__x86_64__) && PEFT_BYTES == 64
// table[i & 15], lane by lane
PEFT_SIMD Floats pick(Floats table, Ints i) {
  typedef float Values __attribute__((vector_size(64)));
  typedef int Places __attribute__((vector_size(64)));
#if defined(__clang__)
  return Floats(__builtin_ia32_permvarsf512(Values(table), Places(i)));
#else
  return Floats(__builtin_ia32_permvarsf512_mask(Values(table), Places(i), Values{}, short(-1)));
#endif
}
#endif
// The same with the table in memory, whatever the width of a register.
PEFT_SIMD Floats pick(const float* table, Ints i) {
#if defined(__x86_64__) && PEFT_BYTES == 64
  return pick(load(table), i);
#elif defined(__x86_64__) && PEFT_BYTES == 32
  typedef float Values __attribute__((vector_size(32)));
  typedef int Places __attribute__((vector_size(32)));
  const Floats low = Floats(__builtin_ia32_permvarsf256(Values(load(table)), Places(i)));  // looks at three bits
  const Floats high = Floats(__builtin_ia32_permvarsf256(Values(load(table + 8)), Places(i)));
  return (i & 8) != 0 ? high : low;
#else
  Floats r;
  for (int l = 0; l < L<float>; l++) r[l] = table[i[l] & 15];
  return r;
#endif
}

/// Blocks of 32: d, and m or what else follows, as binary16 at the beginning.
template <DType type>
inline constexpr bool simple = info(type).block == 32 && type != DType::iq4_nl&& type != DType::mxfp4;

// r: the 32 elements of a simple block whose d and m are known already, L to a vector.
template <DType type>
PEFT_SIMD void unit(Floats* r, Bytes b, float d, [[maybe_unused]] float m) {
  constexpr int W = L<float>, n = unit_vectors;
  if constexpr (type == DType::q4_0 || type == DType::q4_1) {
    constexpr bool offset = type == DType::q4_1;
#if defined(__x86_64__) && PEFT_BYTES == 64
    // All sixteen values of the block stand in one register; its permutation looks at the low four bits of a code only.
    const Floats table = offset ? Floats{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} * d + broadcast(m)
                                : Floats{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7} * d;
    const Ints q = bytes(b + (offset ? 4 : 2));
    r[0] = pick(table, q), r[1] = pick(table, q >> 4);
#else
    _Pragma("GCC unroll 8") for (int i = 0; i < n / 2; i++) {
      const Ints q = bytes(b + (offset ? 4 : 2) + W * i);
      if constexpr (offset)
        r[i] = floats(q & 15) * d + m, r[i + n / 2] = floats(q >> 4) * d + m;
      else
        r[i] = floats((q & 15) - 8) * d, r[i + n / 2] = floats((q >> 4) - 8) * d;
    }
#endif
  } else if constexpr (type == DType::q8_0) {
    _Pragma("GCC unroll 8") for (int i = 0; i < n; i++) r[i] = floats(signed_bytes(b + 2 + W * i)) * d;
  } else {
    constexpr bool offset = type == DType::q5_1;
    int high;
    __builtin_memcpy(&high, b + (offset ? 4 : 2), 4);
    Ints lane;
    for (int i = 0; i < W; i++) lane[i] = i;
    _Pragma("GCC unroll 8") for (int i = 0; i < n / 2; i++) {
      const Ints q = bytes(b + (offset ? 8 : 6) + W * i);
      const Ints low = (q & 15) | ((high - Ints{}) >> (lane + W * i) & 1) << 4, top = q >> 4 | ((high - Ints{}) >> (lane + W * i + 16) & 1) << 4;
      if constexpr (offset)
        r[i] = floats(low) * d + m, r[i + n / 2] = floats(top) * d + m;
      else
        r[i] = floats(low - 16) * d, r[i + n / 2] = floats(top - 16) * d;
    }
  }
}

// Sixteen bytes of two codes each, elements 0 … 15 in the low halves, that stand for table[code] · scale.
PEFT_SIMD void coded_unit(Floats* r, Bytes q, const float* table, float scale) {
  constexpr int W = L<float>, n = unit_vectors;
  _Pragma("GCC unroll 8") for (int i = 0; i < n / 2; i++) {
    const Ints codes = bytes(q + W * i);
    r[i] = pick(table, codes) * scale, r[i + n / 2] = pick(table, codes >> 4) * scale;
  }
}
// TQ1_0: a byte has five digits of base 3 behind the point, in 256ths. Elements 32 t + l are digit t of byte l < 32, elements 160 + 16 t + l of byte
// 32 + l < 48, elements 240 + 4 t + l of byte 48 + l < 52.
PEFT_SIMD void ternary_unit(Floats* r, Bytes b, int u) {
  constexpr int W = L<float>, powers[5] = {1, 3, 9, 27, 81};
  const float d = half(b + 52);
  std::uint8_t last[16];
  for (int i = 0; i < 16; i++) last[i] = std::uint8_t(b[48 + i % 4] * powers[i / 4]);
  _Pragma("GCC unroll 8") for (int i = 0; i < unit_vectors; i++) {
    const int e = 32 * u + W * i, t = (e - 160) / 16;
    const Bytes from = u < 5 ? b + W * i : e < 240 ? b + 32 + e % 16 : last + e % 16;
    const Ints shifted = bytes(from) * (u < 5 ? powers[u] : e < 240 ? powers[t] : 1) & 255;
    r[i] = floats((shifted * 3 >> 8) - 1) * d;
  }
}

// NF4's unit of 32 in a row of such. The scale's product is rounded before the mean is added, as the definition has it.
PEFT_SIMD void nf4_unit(Floats* r, Bytes row, std::int64_t at) {
  constexpr std::int64_t size = detail::Nf4::bytes;
  const std::int64_t block = at / 2;
  Bytes b = row + size * (1 + block);
  float mean, second;
  __builtin_memcpy(&mean, row, 4);
  __builtin_memcpy(&second, row + detail::Nf4::scales_at + 4 * ((row[detail::Nf4::place_at] + block) / detail::Nf4::group), 4);
  float scale = detail::dynamic_values[*b] * second;
  asm("" : "+m"(scale));
  coded_unit(r, b + 1 + 16 * (at % 2), detail::nf4_values, scale + mean);
}

// d and m of a row's blocks, as float: four blocks at once, because one by one their conversions cost as much as the products. What
// follows the last block is not read.
template <DType type>
PEFT_SIMD void scales_of(float* scales, Bytes w, std::int64_t blocks) {
  constexpr std::int64_t size = info(type).bytes;
  for (std::int64_t i = 0; i < blocks; i += 4, w += 4 * size, scales += 8) {
    typedef int Pairs __attribute__((vector_size(16)));
    int a, b, c, d;
    const std::int64_t left = blocks - i - 1;
    __builtin_memcpy(&a, w, 4), __builtin_memcpy(&b, w + (left > 0 ? size : 0), 4);
    __builtin_memcpy(&c, w + (left > 1 ? 2 * size : 0), 4), __builtin_memcpy(&d, w + (left > 2 ? 3 * size : 0), 4);
    const Pairs pairs = {a, b, c, d};
#if defined(__x86_64__) && PEFT_BYTES > 16
    typedef short Eight __attribute__((vector_size(16)));
    const auto wide = __builtin_ia32_vcvtph2ps256(Eight(pairs));
    __builtin_memcpy(scales, &wide, 32);
#else
    std::uint8_t halves8[16];
    __builtin_memcpy(halves8, &pairs, 16);
    store(scales, halves(halves8)), store(scales + 4, halves(halves8 + 8));
#endif
  }
}

// r: elements 32 u … 32 u + 31 of a block, L to a vector. d, m and dmin are binary16.
template <DType type>
PEFT_SIMD void unit(Floats* r, Bytes b, int u) {
  constexpr int W = L<float>, n = unit_vectors;
  if constexpr (simple<type>) {
    unit<type>(r, b, half(b), type == DType::q4_1 || type == DType::q5_1 ? half(b + 2) : 0.f);
  } else if constexpr (type == DType::q2_k) {
    const float d = half(b + 80), minimum = half(b + 82);
    _Pragma("GCC unroll 8") for (int i = 0; i < n; i++) {
      const int s = b[2 * u + W * i / 16];
      r[i] = floats(bytes(b + 16 + 32 * (u / 4) + W * i) >> 2 * (u % 4) & 3) * (d * float(s & 15)) - minimum * float(s >> 4);
    }
  } else if constexpr (type == DType::q3_k) {
    const float d = half(b + 108);
    Bytes s = b + 96;
    _Pragma("GCC unroll 8") for (int i = 0; i < n; i++) {
      const int k = 2 * u + W * i / 16, low = k < 8 ? s[k] & 15 : s[k - 8] >> 4, high = s[8 + k % 4] >> 2 * (k / 4) & 3;
      const Ints q = bytes(b + 32 + 32 * (u / 4) + W * i) >> 2 * (u % 4) & 3, third = bytes(b + W * i) >> u & 1;
      r[i] = floats(q + 4 * third - 4) * (d * float((low | high << 4) - 32));
    }
  } else if constexpr (type == DType::q4_k || type == DType::q5_k) {
    constexpr bool five = type == DType::q5_k;
    int s, m;
    scale_and_minimum(b + 4, u, s, m);
    const float scale = half(b) * float(s), shift = half(b + 2) * float(m);
    _Pragma("GCC unroll 8") for (int i = 0; i < n; i++) {
      Ints q = bytes(b + (five ? 48 : 16) + 32 * (u / 2) + W * i) >> 4 * (u % 2) & 15;
      if constexpr (five) q |= (bytes(b + 16 + W * i) >> u & 1) << 4;
      r[i] = floats(q) * scale - shift;
    }
  } else if constexpr (type == DType::iq4_nl) {
    coded_unit(r, b + 2, detail::iq4_values, half(b));
  } else if constexpr (type == DType::iq4_xs) {
    const int low = b[4 + u / 2] >> 4 * (u % 2) & 15, high = b[2 + u / 4] >> 2 * (u % 4) & 3;
    coded_unit(r, b + 8 + 16 * u, detail::iq4_values, half(b) * float((low | high << 4) - 32));
  } else if constexpr (type == DType::mxfp4) {
    // 2^(e - 128), the scale E8M0 halved; below 2⁻¹²⁶ it is subnormal.
    const std::uint32_t e = b[0], bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
    float d;
    __builtin_memcpy(&d, &bits, 4);
    coded_unit(r, b + 1, detail::mxfp4_values, d);
  } else if constexpr (type == DType::tq1_0) {
    ternary_unit(r, b, u);
  } else if constexpr (type == DType::tq2_0) {
    const float d = half(b + 64);
    _Pragma("GCC unroll 8") for (int i = 0; i < n; i++) r[i] = floats((bytes(b + 32 * (u / 4) + W * i) >> 2 * (u % 4) & 3) - 1) * d;
  } else {
    static_assert(type == DType::q6_k);
    const float d = half(b + 208);
    const int h = u / 4, j = u % 4;
    _Pragma("GCC unroll 8") for (int i = 0; i < n; i++) {
      const Ints low = bytes(b + 64 * h + 32 * (j % 2) + W * i) >> 4 * (j / 2) & 15, high = bytes(b + 128 + 32 * h + W * i) >> 2 * j & 3;
      r[i] = floats((low | high << 4) - 32) * (d * float(std::int8_t(b[192 + 2 * u + W * i / 16])));
    }
  }
}

// L elements of a type without blocks.
template <DType type>
PEFT_SIMD Floats plain(Bytes p) {
  if constexpr (type == DType::f32)
    return load(reinterpret_cast<const float*>(p));
  else if constexpr (type == DType::f16)
    return halves(p);
  else
    return Floats(words(p) << 16);
}

template <DType type>
PEFT_TARGET void widen_row(float* out, const std::byte* row, std::int64_t first, std::int64_t n) {
  Bytes b = reinterpret_cast<Bytes>(row);
  constexpr int W = L<float>;
  if constexpr (info(type).block == 1) {
    constexpr int size = int(info(type).bytes);
    b += first * size;
    for (; n >= W; n -= W, b += W * size, out += W) store(out, plain<type>(b));
    if (n > 0) {
      std::uint8_t rest[W * size] = {};
      for (std::int64_t i = 0; i < n * size; i++) rest[i] = b[i];
      store_part(out, plain<type>(rest), n);
    }
  } else {
    constexpr int units = int(info(type).block / 32);
    constexpr std::int64_t size = info(type).bytes;
    if constexpr (simple<type>)
      while (first % 32 == 0 && n >= 32) {
        constexpr std::int64_t slab = 16;
        const std::int64_t blocks = n / 32 < slab ? n / 32 : slab;
        Bytes from = b + first / 32 * size;
        float scales[2 * slab];
        scales_of<type>(scales, from, blocks);
        for (std::int64_t i = 0; i < blocks; i++, from += size, out += 32) {
          Floats r[unit_vectors];
          unit<type>(r, from, scales[2 * i], scales[2 * i + 1]);
          _Pragma("GCC unroll 8") for (int j = 0; j < unit_vectors; j++) store(out + W * j, r[j]);
        }
        first += 32 * blocks, n -= 32 * blocks;
      }
    while (n > 0) {
      const std::int64_t at = first / 32;
      const int begin = int(first % 32), end = begin + n < 32 ? int(begin + n) : 32;
      Floats r[unit_vectors];
      if constexpr (type == DType::nf4)
        nf4_unit(r, b, at);
      else
        unit<type>(r, b + at / units * size, int(at % units));
      if (end - begin == 32) {
        _Pragma("GCC unroll 8") for (int i = 0; i < unit_vectors; i++) store(out + W * i, r[i]);
      } else {
        float whole[32];
        for (int i = 0; i < unit_vectors; i++) store(whole + W * i, r[i]);
        for (int i = begin; i < end; i++) out[i - begin] = whole[i];
      }
      out += end - begin, first += end - begin, n -= end - begin;
    }
  }
}
// To double through float, which holds every stored value exactly.
template <DType type>
PEFT_TARGET void widen_row(double* out, const std::byte* row, std::int64_t first, std::int64_t n) {
  float part[256];
  for (std::int64_t i = 0; i < n; i += 256) {
    const std::int64_t m = n - i < 256 ? n - i : 256;
    widen_row<type>(part, row, first + i, m);
    for (std::int64_t j = 0; j < m; j++) out[i + j] = double(part[j]);
  }
}
template <class T>
PEFT_TARGET void widen_doubles(T* out, const std::byte* row, std::int64_t first, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i++) {
    double value;
    __builtin_memcpy(&value, row + (first + i) * 8, 8);
    out[i] = T(value);
  }
}

/// Null for what is not a real number.
template <class T>
PEFT_TARGET detail::Widen<T> widener(DType type) {
  switch (type) {
    case DType::f32:
      return widen_row<DType::f32>;
    case DType::f64:
      return widen_doubles<T>;
    case DType::f16:
      return widen_row<DType::f16>;
    case DType::bf16:
      return widen_row<DType::bf16>;
    case DType::q4_0:
      return widen_row<DType::q4_0>;
    case DType::q4_1:
      return widen_row<DType::q4_1>;
    case DType::q5_0:
      return widen_row<DType::q5_0>;
    case DType::q5_1:
      return widen_row<DType::q5_1>;
    case DType::q8_0:
      return widen_row<DType::q8_0>;
    case DType::q2_k:
      return widen_row<DType::q2_k>;
    case DType::q3_k:
      return widen_row<DType::q3_k>;
    case DType::q4_k:
      return widen_row<DType::q4_k>;
    case DType::q5_k:
      return widen_row<DType::q5_k>;
    case DType::q6_k:
      return widen_row<DType::q6_k>;
    case DType::iq4_nl:
      return widen_row<DType::iq4_nl>;
    case DType::iq4_xs:
      return widen_row<DType::iq4_xs>;
    case DType::mxfp4:
      return widen_row<DType::mxfp4>;
    case DType::tq1_0:
      return widen_row<DType::tq1_0>;
    case DType::tq2_0:
      return widen_row<DType::tq2_0>;
    case DType::nf4:
      return widen_row<DType::nf4>;
    default:
      return nullptr;
  }
}

}  // namespace peft::ops::PEFT_ISA
