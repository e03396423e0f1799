// SPDX-License-Identifier: Apache-2.0
// Every storage type's definition, written out as plainly as it can be, and weights of each.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "peft/core/float16.hpp"
#include "peft/ops/quantized.hpp"
#include "support/is_near.hpp"

namespace peft::testing {

using Bytes = std::vector<std::uint8_t>;
inline constexpr DType blocks_of_32[] = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0};
inline constexpr DType blocks_of_256[] = {DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_xs, DType::tq1_0, DType::tq2_0};
inline constexpr DType coded_blocks[] = {DType::iq4_nl, DType::mxfp4};  // of 32, which nobody here writes
inline constexpr DType plain[] = {DType::f32, DType::f64, DType::f16, DType::bf16};
inline std::vector<DType> all_types() {
  std::vector<DType> all(std::begin(plain), std::end(plain));
  all.insert(all.end(), std::begin(blocks_of_32), std::end(blocks_of_32));
  all.insert(all.end(), std::begin(blocks_of_256), std::end(blocks_of_256));
  all.insert(all.end(), std::begin(coded_blocks), std::end(coded_blocks));
  return all;
}

// IEEE binary16: sign, five bits of exponent, ten of mantissa.
inline double half(const std::uint8_t* p) {
  const int bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

// One block, as GGUF defines it. In double nothing below is rounded.
inline std::vector<double> block_by_definition(DType type, const std::uint8_t* b) {
  std::vector<double> x(std::size_t(info(type).block));
  if (type == DType::q8_0) {
    for (std::size_t j = 0; j < 32; j++) x[j] = half(b) * std::int8_t(b[2 + j]);
  } else if (type == DType::q4_0 || type == DType::q4_1 || type == DType::q5_0 || type == DType::q5_1) {
    const bool minimum = type == DType::q4_1 || type == DType::q5_1, five = type == DType::q5_0 || type == DType::q5_1;
    const double d = half(b), m = minimum ? half(b + 2) : 0;
    const std::uint8_t *high = b + (minimum ? 4 : 2), *low = high + (five ? 4 : 0);
    for (std::size_t j = 0; j < 32; j++) {
      int q = j < 16 ? low[j] & 15 : low[j - 16] >> 4;
      if (five) q |= (high[j / 8] >> (j % 8) & 1) << 4;
      x[j] = minimum ? d * q + m : d * (q - (five ? 16 : 8));
    }
  } else if (type == DType::q2_k) {
    const std::uint8_t *scales = b, *qs = b + 16;
    const double d = half(b + 80), dmin = half(b + 82);
    for (std::size_t e = 0; e < 256; e++) {
      const std::size_t h = e / 128, j = e % 128 / 32, part = e % 32 / 16, l = e % 16;
      const int s = scales[8 * h + 2 * j + part], q = qs[32 * h + 16 * part + l] >> (2 * j) & 3;
      x[e] = d * (s & 15) * q - dmin * (s >> 4);
    }
  } else if (type == DType::q3_k) {
    const std::uint8_t *mask = b, *qs = b + 32, *sc = b + 96;
    const double d = half(b + 108);
    for (std::size_t e = 0; e < 256; e++) {
      const std::size_t h = e / 128, j = e % 128 / 32, part = e % 32 / 16, l = e % 16, k = 8 * h + 2 * j + part;
      const int low = k < 8 ? sc[k] & 15 : sc[k - 8] >> 4, high = sc[8 + k % 4] >> (2 * (k / 4)) & 3, s = (low | high << 4) - 32;
      const int q = (qs[32 * h + 16 * part + l] >> (2 * j) & 3) - (mask[16 * part + l] >> (4 * h + j) & 1 ? 0 : 4);
      x[e] = d * s * q;
    }
  } else if (type == DType::q4_k || type == DType::q5_k) {
    const bool five = type == DType::q5_k;
    const double d = half(b), dmin = half(b + 2);
    const std::uint8_t *s = b + 4, *high = b + 16, *qs = high + (five ? 32 : 0);
    for (std::size_t e = 0; e < 256; e++) {
      const std::size_t j = e / 32, l = e % 32;
      const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4, minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
      int q = j % 2 == 0 ? qs[32 * (j / 2) + l] & 15 : qs[32 * (j / 2) + l] >> 4;
      if (five) q += (high[l] >> j & 1) * 16;
      x[e] = d * scale * q - dmin * minimum;
    }
  } else if (type == DType::iq4_nl || type == DType::iq4_xs) {
    const int values[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    for (std::size_t e = 0; e < x.size(); e++) {
      const std::size_t u = e / 32, j = e % 32;
      const std::uint8_t byte = b[(type == DType::iq4_nl ? 2 : 8) + 16 * u + j % 16];
      double d = half(b);
      if (type == DType::iq4_xs) d *= (b[4 + u / 2] >> (u % 2 * 4) & 15) + 16 * ((b[2] | b[3] << 8) >> (2 * u) & 3) - 32;
      x[e] = d * values[j < 16 ? byte & 15 : byte >> 4];
    }
  } else if (type == DType::mxfp4) {  // FP4: sign, two bits of exponent, one of mantissa
    for (std::size_t j = 0; j < 32; j++) {
      const int q = j < 16 ? b[1 + j] & 15 : b[1 + j - 16] >> 4, exponent = q >> 1 & 3;
      const double size = exponent == 0 ? 0.5 * (q & 1) : std::ldexp(1 + 0.5 * (q & 1), exponent - 1);
      x[j] = std::ldexp(q & 8 ? -size : size, b[0] - 127);
    }
  } else if (type == DType::tq1_0) {
    const auto digit = [&](std::size_t byte, std::size_t t) {
      int q = b[byte];
      for (std::size_t i = 0; i < t; i++) q = q * 3 % 256;
      return q * 3 / 256 - 1;
    };
    for (std::size_t e = 0; e < 256; e++)
      x[e] = half(b + 52) * (e < 160 ? digit(e % 32, e / 32) : e < 240 ? digit(32 + e % 16, (e - 160) / 16) : digit(48 + e % 4, (e - 240) / 4));
  } else if (type == DType::tq2_0) {
    for (std::size_t e = 0; e < 256; e++) x[e] = half(b + 64) * ((b[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3) - 1);
  } else {  // Q6_K
    const std::uint8_t *ql = b, *qh = b + 128;
    const double d = half(b + 208);
    for (std::size_t e = 0; e < 256; e++) {
      const std::size_t h = e / 128, i = e % 128 / 32, l = e % 32;
      const int low = ql[64 * h + 32 * (i % 2) + l] >> (i < 2 ? 0 : 4) & 15, high = qh[32 * h + l] >> (2 * i) & 3;
      x[e] = d * std::int8_t(b[192 + 8 * h + 2 * i + l / 16]) * ((low | high << 4) - 32);
    }
  }
  return x;
}
inline std::vector<double> by_definition(DType type, const Bytes& row) {
  std::vector<double> x;
  const std::size_t bytes = std::size_t(info(type).bytes);
  for (std::size_t at = 0; at < row.size(); at += bytes) {
    const std::uint8_t* p = row.data() + at;
    if (type == DType::f32) {
      float value;
      std::memcpy(&value, p, 4), x.push_back(value);
    } else if (type == DType::f64) {
      double value;
      std::memcpy(&value, p, 8), x.push_back(value);
    } else if (type == DType::f16) {
      x.push_back(half(p));
    } else if (type == DType::bf16) {  // the upper half of a binary32
      const std::uint32_t bits = std::uint32_t(p[0]) << 16 | std::uint32_t(p[1]) << 24;
      float value;
      std::memcpy(&value, &bits, 4), x.push_back(value);
    } else {
      const auto block = block_by_definition(type, p);
      for (double value : block) x.push_back(float(value));  // a stored block holds binary32 numbers, whatever computes with them
    }
  }
  return x;
}

// n elements of random bits, the scales finite: of any sign and any exponent below 2, subnormal ones included.
inline Bytes random_row(DType type, std::int64_t n, std::uint64_t seed) {
  Random random(seed);
  Bytes row(std::size_t(bytes_of(type, n)));
  for (auto& byte : row) byte = std::uint8_t(random.below(256));
  const std::size_t bytes = std::size_t(info(type).bytes);
  for (std::size_t at = 0; at < row.size(); at += bytes) {
    const auto finite = [&](std::size_t offset) { row[at + offset] = std::uint8_t(row[at + offset] & 0xbf); };  // the highest bit of an exponent
    if (type == DType::f32 || type == DType::f64 || type == DType::f16 || type == DType::bf16)
      finite(bytes - 1);
    else if (type == DType::q2_k)
      finite(81), finite(83);
    else if (type == DType::q3_k)
      finite(109);
    else if (type == DType::q6_k)
      finite(209);
    else if (type == DType::tq1_0)
      finite(53);
    else if (type == DType::tq2_0)
      finite(65);
    else if (type == DType::mxfp4)
      row[at] = std::uint8_t(row[at] % 252);  // of any exponent, with which the largest number is finite
    else if (type == DType::q4_1 || type == DType::q5_1 || type == DType::q4_k || type == DType::q5_k)
      finite(1), finite(3);
    else
      finite(1);
  }
  return row;
}

// Rows of what a model holds, in any type: K-quants and others of random bits with scales of about 0.01.
struct Stored {
  Bytes bytes;
  ops::WeightView view;
  Stored(DType type, std::int64_t rows, std::int64_t cols, std::uint64_t seed = 1) : view(nullptr, type, rows, cols) {
    if (type == DType::nf4) {
      const ops::OwnedWeight q = ops::quantized(ops::WeightView(random_normal<float>({rows, cols}, seed).view()), type);
      bytes.resize(std::size_t(q.view.bytes())), std::memcpy(bytes.data(), q.view.data, bytes.size());
      view = q.view, view.data = bytes.data();
      return;
    }
    for (std::int64_t r = 0; r < rows; r++) {
      Bytes row = random_row(type, cols, seed + std::uint64_t(r));
      if (info(type).block == 256) {
        for (std::size_t at = 0; at < row.size(); at += std::size_t(info(type).bytes))
          for (std::size_t offset : type == DType::q2_k     ? std::vector<std::size_t>{80, 82}
                                    : type == DType::q3_k   ? std::vector<std::size_t>{108}
                                    : type == DType::q6_k   ? std::vector<std::size_t>{208}
                                    : type == DType::tq1_0  ? std::vector<std::size_t>{52}
                                    : type == DType::tq2_0  ? std::vector<std::size_t>{64}
                                    : type == DType::iq4_xs ? std::vector<std::size_t>{0}
                                                            : std::vector<std::size_t>{0, 2})
            row[at + offset] = 0x1f, row[at + offset + 1] = 0x21;
      } else if (type == DType::iq4_nl || type == DType::mxfp4) {
        for (std::size_t at = 0; at < row.size(); at += std::size_t(info(type).bytes))
          if (type == DType::mxfp4)
            row[at] = 120;
          else
            row[at] = 0x1f, row[at + 1] = 0x21;
      } else {
        const Tensor<double> values = random_normal<double>({cols}, seed + std::uint64_t(r));
        if (type == DType::f64)
          std::memcpy(row.data(), values.data(), row.size());
        else
          ops::quantize(row.data(), type, cast<float>(values).data(), cols);
      }
      bytes.insert(bytes.end(), row.begin(), row.end());
    }
    view.data = bytes.data();
  }
};

}  // namespace peft::testing
