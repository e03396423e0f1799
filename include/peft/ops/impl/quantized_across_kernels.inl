// SPDX-License-Identifier: Apache-2.0
// Blocks of as many rows as a register has lanes at once, widened across: an element of all rows is a vector, as the panels of the products
// want it. Codes are turned as words, four bytes at a time, and become numbers where they belong. Read once for each instruction set by
// quantized_kernels.hpp.
namespace peft::ops::PEFT_ISA {

// Sixteen bytes of each row. Part g of a register is those of row 4 g + c; of four such registers the words are turned, so that lane i of
// r[w] is word w of row i.
typedef std::uint32_t Piece __attribute__((vector_size(16), aligned(1), may_alias));
PEFT_SIMD Piece piece(Bytes p) { return *reinterpret_cast<const Piece*>(p); }
PEFT_SIMD Ints side_by_side(Bytes const* p, std::int64_t at) {
#if PEFT_BYTES == 16
  return Ints(piece(p[0] + at));
#else
  const auto pair = __builtin_shufflevector(piece(p[0] + at), piece(p[4] + at), 0, 1, 2, 3, 4, 5, 6, 7);
#if PEFT_BYTES == 32
  return Ints(pair);
#else
  const auto second = __builtin_shufflevector(piece(p[8] + at), piece(p[12] + at), 0, 1, 2, 3, 4, 5, 6, 7);
  return Ints(__builtin_shufflevector(pair, second, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
#endif
#endif
}
template <int from, int... I>  // words from, from + 1 of every part of a and of b, in turn
PEFT_SIMD Ints woven(Ints a, Ints b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I / 4 * 4 + from + I % 4 / 2 + I % 2 * L<float>)...);
}
PEFT_SIMD void turned(Ints* r, Bytes const* rows, std::int64_t at) {
  constexpr auto lanes = std::make_integer_sequence<int, L<float>>{};
  const Ints a = side_by_side(rows, at), b = side_by_side(rows + 1, at), c = side_by_side(rows + 2, at), d = side_by_side(rows + 3, at);
  const Ints ac = woven<0>(a, c, lanes), bd = woven<0>(b, d, lanes), ac2 = woven<2>(a, c, lanes), bd2 = woven<2>(b, d, lanes);
  r[0] = woven<0>(ac, bd, lanes), r[1] = woven<2>(ac, bd, lanes), r[2] = woven<0>(ac2, bd2, lanes), r[3] = woven<2>(ac2, bd2, lanes);
}

// Blocks of simple types.
template <DType type>
PEFT_TARGET void widen_rows_across(float* out, std::int64_t stride, const std::byte* const* rows, std::int64_t first, std::int64_t n, std::int64_t ahead) {
  constexpr std::int64_t size = info(type).bytes;
  constexpr bool nibbles = type != DType::q8_0, fifth = type == DType::q5_0 || type == DType::q5_1, offset = type == DType::q4_1 || type == DType::q5_1;
  constexpr int codes_at = 2 + 2 * offset + 4 * fifth;
  Bytes from[L<float>];
  for (int i = 0; i < L<float>; i++) from[i] = reinterpret_cast<Bytes>(rows[i]) + first / 32 * size;
  for (std::int64_t at = 0; at < n / 32 * size; at += size, out += 32 * stride) {
    Ints head[4], words[4];
    _Pragma("GCC unroll 16") for (int i = 0; i < L<float>; i++) __builtin_prefetch(from[i] + at + ahead);
    turned(head, from, at);
    const Floats d = halves(head[0]);
    [[maybe_unused]] Floats m{};
    if constexpr (offset) m = halves(head[0] >> 16);
    [[maybe_unused]] Ints high{};
    if constexpr (type == DType::q5_0) high = Ints(V<std::uint32_t>(head[0]) >> 16) | head[1] << 16;
    if constexpr (type == DType::q5_1) high = head[1];
    _Pragma("GCC unroll 2") for (int part = 0; part < (nibbles ? 1 : 2); part++) {
      turned(words, from, at + codes_at + 16 * part);
      _Pragma("GCC unroll 16") for (int k = 0; k < 16; k++) {
        const Ints word = words[k / 4];
        const int bit = k % 4 * 8;
        if constexpr (!nibbles) {
          store(out + (16 * part + k) * stride, floats(word << (24 - bit) >> 24) * d);
        } else {
          _Pragma("GCC unroll 2") for (int half = 0; half < 2; half++) {
            Ints q = word >> (bit + 4 * half) & 15;
            if constexpr (fifth) q |= (high >> (k + 16 * half) & 1) << 4;
            Floats value;
            if constexpr (offset)
              value = floats(q) * d + m;
            else
              value = floats(q - (fifth ? 16 : 8)) * d;
            store(out + (16 * half + k) * stride, value);
          }
        }
      }
    }
  }
}
// The same for blocks of 256 whose units have scales of their own.
template <DType type>
PEFT_TARGET void widen_units_across(float* out, std::int64_t stride, const std::byte* const* rows, std::int64_t first, std::int64_t n, std::int64_t ahead) {
  constexpr std::int64_t size = info(type).bytes;
  Bytes from[L<float>];
  for (int i = 0; i < L<float>; i++) from[i] = reinterpret_cast<Bytes>(rows[i]);
  for (std::int64_t unit = first / 32; unit < (first + n) / 32; unit++, out += 32 * stride) {
    const std::int64_t at = unit / 8 * size;
    const int u = int(unit % 8);
    _Pragma("GCC unroll 16") for (int i = 0; i < L<float>; i++) __builtin_prefetch(from[i] + at + ahead + size / 8 * u);
    if constexpr (type == DType::q6_k) {
      Ints scales[4], end[4], low[4], high[4];
      turned(scales, from, at + 192), turned(end, from, at + 194);
      const Floats d = halves(end[3] >> 16);
      const int h = u / 4, j = u % 4;
      for (int part = 0; part < 2; part++) {
        const Ints two = (u / 2 == 0 ? scales[0] : u / 2 == 1 ? scales[1] : u / 2 == 2 ? scales[2] : scales[3]) >> (16 * (u % 2) + 8 * part);
        const Floats scale = d * floats(two << 24 >> 24);
        turned(low, from, at + 64 * h + 32 * (j % 2) + 16 * part), turned(high, from, at + 128 + 32 * h + 16 * part);
        _Pragma("GCC unroll 16") for (int k = 0; k < 16; k++) {
          const int bit = k % 4 * 8;
          const Ints q = (low[k / 4] >> (bit + 4 * (j / 2)) & 15) | (high[k / 4] >> (bit + 2 * j) & 3) << 4;
          store(out + (16 * part + k) * stride, floats(q - 32) * scale);
        }
      }
    } else {
      constexpr bool five = type == DType::q5_k;
      Ints head[4], words[4], fifth[4];
      turned(head, from, at);
      const int byte = 8 * (u % 4);
      Ints s = head[1] >> byte & 63, m = head[2] >> byte & 63;
      if (u >= 4) {
        s = (head[3] >> byte & 15) | (head[1] >> (byte + 6) & 3) << 4;
        m = (head[3] >> (byte + 4) & 15) | (head[2] >> (byte + 6) & 3) << 4;
      }
      const Floats scale = halves(head[0]) * floats(s), shift = halves(head[0] >> 16) * floats(m);
      for (int part = 0; part < 2; part++) {
        turned(words, from, at + (five ? 48 : 16) + 32 * (u / 2) + 16 * part);
        if constexpr (five) turned(fifth, from, at + 16 + 16 * part);
        _Pragma("GCC unroll 16") for (int k = 0; k < 16; k++) {
          const int bit = k % 4 * 8;
          Ints q = words[k / 4] >> (bit + 4 * (u % 2)) & 15;
          if constexpr (five) q |= (fifth[k / 4] >> (bit + u) & 1) << 4;
          store(out + (16 * part + k) * stride, floats(q) * scale - shift);
        }
      }
    }
  }
}
/// Null where rows are widened one by one.
template <class T>
PEFT_TARGET detail::WidenAcross<T> across([[maybe_unused]] DType type) {
  if constexpr (sizeof(T) == 4) switch (type) {
      case DType::q4_0:
        return widen_rows_across<DType::q4_0>;
      case DType::q4_1:
        return widen_rows_across<DType::q4_1>;
      case DType::q5_0:
        return widen_rows_across<DType::q5_0>;
      case DType::q5_1:
        return widen_rows_across<DType::q5_1>;
      case DType::q8_0:
        return widen_rows_across<DType::q8_0>;
      case DType::q4_k:
        return widen_units_across<DType::q4_k>;
      case DType::q5_k:
        return widen_units_across<DType::q5_k>;
      case DType::q6_k:
        return widen_units_across<DType::q6_k>;
      default:
        break;
    }
  return nullptr;
}

}  // namespace peft::ops::PEFT_ISA
