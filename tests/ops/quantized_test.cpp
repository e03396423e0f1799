// SPDX-License-Identifier: Apache-2.0
// Every storage type against its definition, written out here as plainly as it can be.
#include "peft/ops/quantized.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "peft/core/float16.hpp"
#include "peft/ops/gemm.hpp"
#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr DType blocks_of_32[] = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0};
constexpr DType blocks_of_256[] = {DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_xs, DType::tq1_0, DType::tq2_0};
constexpr DType coded_blocks[] = {DType::iq4_nl, DType::mxfp4};  // of 32, which nobody here writes
constexpr DType plain[] = {DType::f32, DType::f64, DType::f16, DType::bf16};
std::vector<DType> all_types() {
  std::vector<DType> all(std::begin(plain), std::end(plain));
  all.insert(all.end(), std::begin(blocks_of_32), std::end(blocks_of_32));
  all.insert(all.end(), std::begin(blocks_of_256), std::end(blocks_of_256));
  all.insert(all.end(), std::begin(coded_blocks), std::end(coded_blocks));
  return all;
}

// IEEE binary16: sign, five bits of exponent, ten of mantissa.
double half(const std::uint8_t* p) {
  const int bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

// One block, as GGUF defines it. In double nothing below is rounded.
std::vector<double> block_by_definition(DType type, const std::uint8_t* b) {
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
std::vector<double> by_definition(DType type, const Bytes& row) {
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
Bytes random_row(DType type, std::int64_t n, std::uint64_t seed) {
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

}  // namespace

TEMPLATE_TEST_CASE("every type widens to what its definition says, exactly", "[ops]", float, double) {
  using T = TestType;
  for (const DType type : all_types())
    for (const std::int64_t blocks : {1, 2, 7}) {
      const std::int64_t n = blocks * std::max<std::int64_t>(info(type).block, 8) + (info(type).block == 1 ? 5 : 0);
      const Bytes row = random_row(type, n, std::uint64_t(blocks));
      const std::vector<double> expected = by_definition(type, row);
      REQUIRE(std::int64_t(expected.size()) == n);
      std::vector<T> found(std::size_t(n) + 1, T(-77));
      ops::widen<T>(found.data(), row.data(), type, 0, n);
      CAPTURE(name(type), n);
      for (std::size_t i = 0; i < expected.size(); i++)
        if (found[i] != T(expected[i])) {
          CAPTURE(i);
          CHECK(found[i] == T(expected[i]));
        }
      CHECK(found.back() == T(-77));
    }
}

TEMPLATE_TEST_CASE("any part of a row is that part of the whole row", "[ops]", float, double) {
  using T = TestType;
  for (const DType type : all_types()) {
    const std::int64_t n = std::max<std::int64_t>(96, 2 * info(type).block);
    const Bytes row = random_row(type, n, 3);
    std::vector<T> whole(static_cast<std::size_t>(n));
    ops::widen<T>(whole.data(), row.data(), type, 0, n);
    Random random(5);
    for (int k = 0; k < 200; k++) {
      const std::int64_t first = std::int64_t(random.below(std::uint64_t(n))), count = std::int64_t(random.below(std::uint64_t(n - first + 1)));
      std::vector<T> part(std::size_t(count) + 1, T(-77));
      ops::widen<T>(part.data(), row.data(), type, first, count);
      CAPTURE(name(type), first, count);
      CHECK(std::equal(part.begin(), part.end() - 1, whole.begin() + first));
      CHECK(part.back() == T(-77));
    }
  }
}

TEMPLATE_TEST_CASE("a whole weight widens row by row, whatever its order, on any number of threads", "[ops]", float, double) {
  using T = TestType;
  for (const DType type : all_types()) {
    Stored w(type, 24, 256);
    for (const std::int64_t head_dim : {0, 8}) {
      w.view.rope_head_dim = head_dim;
      for (const int n : {1, 2, 4}) {
        const Threads guard(n);
        const Tensor<T> wide = with_gaps(poisoned<T>({24, 256}));
        ops::widen<T>(wide.view(), w.view);
        std::size_t wrong = 0;
        for (std::int64_t r = 0; r < 24; r++) {
          const auto from = w.bytes.begin() + bytes_of(type, w.view.stored_row(r) * 256);
          const std::vector<double> expected = by_definition(type, Bytes(from, from + bytes_of(type, 256)));
          for (std::int64_t c = 0; c < 256; c++) wrong += wide(r, c) != T(expected[std::size_t(c)]);
        }
        CAPTURE(name(type), head_dim, n);
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("quantising writes the bytes of the definition", "[ops]") {
  for (const DType type : blocks_of_32)
    for (const double deviation : {1.0, 1e-3, 100.0}) {
      const Tensor<float> x = random_normal<float>({32 * 20}, 7, deviation);
      for (int i = 32; i < 64; i++) x[i] = 0;                 // a block of zeros
      for (int i = 64; i < 96; i++) x[i] = float(deviation);  // one of equal numbers
      for (int i = 96; i < 128; i++) x[i] = -std::abs(x[i]);  // one of a single sign
      Bytes row(std::size_t(bytes_of(type, x.size())));
      ops::quantize(row.data(), type, x.data(), x.size());
      for (std::int64_t b = 0; b < 20; b++) {
        CAPTURE(name(type), deviation, b);
        const float* v = x.data() + 32 * b;
        float largest = 0, low = v[0], high = v[0];
        for (int i = 0; i < 32; i++) {
          if (std::abs(v[i]) > std::abs(largest)) largest = v[i];
          low = std::min(low, v[i]), high = std::max(high, v[i]);
        }
        const bool minimum = type == DType::q4_1 || type == DType::q5_1, five = type == DType::q5_0 || type == DType::q5_1;
        const float top = five ? 31 : 15;
        const float d = type == DType::q8_0 ? std::abs(largest) / 127
                        : minimum           ? (high - low) / top
                                            : largest / (five ? -16.f : -8.f),
                    inverse = d != 0 ? 1 / d : 0;
        const std::uint8_t* block = row.data() + info(type).bytes * b;
        CHECK(half(block) == double(to_float(to_float16(d))));
        if (minimum) CHECK(half(block + 2) == double(to_float(to_float16(low))));
        for (int i = 0; i < 32; i++) {
          int q;
          if (type == DType::q8_0) {
            q = std::int8_t(block[2 + i]);
            CHECK(q == int(std::roundf(v[i] * inverse)));
            continue;
          }
          const std::uint8_t *bits = block + (minimum ? 4 : 2), *nibbles = bits + (five ? 4 : 0);
          q = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
          if (five) q |= (bits[i / 8] >> (i % 8) & 1) << 4;
          const volatile float scaled = (v[i] - (minimum ? low : 0)) * inverse;  // rounded, before the half is added
          CHECK(q == std::min(int(top), int(scaled + (minimum ? 0.5f : five ? 16.5f : 8.5f))));
        }
      }
    }
}

TEST_CASE("what is quantised comes back within half a step", "[ops]") {
  const Tensor<float> x = random_normal<float>({256}, 9);
  struct Bound {
    DType type;
    double steps;  // the largest error of q, in units of a block's largest magnitude
  };
  // Half a step; a whole one at the end that an asymmetric range of −8 … 7 cuts off.
  for (const Bound& e : {Bound{DType::f16, 0x1p-11},
                         {DType::bf16, 0x1p-8},
                         {DType::q8_0, 0.5 / 127},
                         {DType::q4_0, 1.0 / 8},
                         {DType::q4_1, 1.0 / 15},
                         {DType::q5_0, 1.0 / 16},
                         {DType::q5_1, 1.0 / 31}}) {
    Bytes row(std::size_t(bytes_of(e.type, 256)));
    ops::quantize(row.data(), e.type, x.data(), 256);
    const std::vector<double> back = by_definition(e.type, row);
    for (int b = 0; b < 8; b++) {
      double largest = 0, worst = 0;
      for (int i = 32 * b; i < 32 * b + 32; i++)
        largest = std::max(largest, std::abs(double(x[i]))), worst = std::max(worst, std::abs(back[std::size_t(i)] - double(x[i])));
      CAPTURE(name(e.type), b);
      CHECK(worst <= largest * (e.steps + 2 * 0x1p-11));  // scale and minimum are rounded to binary16 themselves
    }
  }
}

TEMPLATE_TEST_CASE("products with stored weights are products with the widened ones", "[ops]", float, double) {
  using T = TestType;
  std::vector<DType> types = all_types();
  types.push_back(DType::nf4);
  for (const DType type : types)
    for (const std::int64_t n : {1, 3, 19}) {
      const Stored w(type, 37, 256);
      const Tensor<T> wide({37, 256}), x = random_normal<T>({n, 256}, 5), dy = random_normal<T>({n, 37}, 6);
      ops::widen<T>(wide.view(), w.view);
      for (const ops::Kernel kernel : {ops::Kernel::panel, ops::Kernel::dot}) {
        const ops::UseKernel use(kernel);
        CAPTURE(name(type), n, int(kernel));
        const auto forward = [&](const ops::WeightView& weight) {
          Tensor<T> y = poisoned<T>({n, 37});
          ops::linear_forward<T>(y.view(), x.view(), weight);
          return y;
        };
        const Tensor<T> found = forward(w.view), expected = forward(ops::WeightView(wide.view()));
        if (kernel == ops::Kernel::panel) CHECK(same_bits(found, expected));  // the same panels; a dot may sum in a stored block's order
        CHECK_THAT(array(found), is_near<T>(array(expected), 4));
      }
      const auto backward = [&](const ops::WeightView& weight) {
        Tensor<T> dx = poisoned<T>({n, 256});
        ops::linear_backward_input<T>({dx.view()}, dy.view(), weight);
        return dx;
      };
      CHECK(same_bits(backward(w.view), backward(ops::WeightView(wide.view()))));
    }
}

namespace {

// NormalFloat4: quantiles of a normal distribution between 1 − 0.9677083 and 0.9677083, eight steps above zero and seven below, the largest being 1.
std::vector<double> normal_float_4() {
  const auto quantile = [](double p) {
    double low = -9, high = 9;
    for (int i = 0; i < 200; i++) {
      const double middle = (low + high) / 2;
      (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
    }
    return low;
  };
  const double end = 0.9677083, largest = quantile(end);
  std::vector<double> values;
  for (int i = 0; i < 7; i++) values.push_back(-quantile(end + (0.5 - end) * i / 7) / largest);
  for (int i = 8; i >= 0; i--) values.push_back(i == 8 ? 0 : quantile(end + (0.5 - end) * i / 8) / largest);
  return values;
}
// The dynamic tree of eight bits: a sign, leading zeros that are an exponent, and a fraction of the bits that are left.
std::vector<double> dynamic_tree() {
  std::vector<double> values = {0, 1};
  for (int zeros = 0; zeros < 7; zeros++) {
    const int fractions = 1 << (6 - zeros);
    for (int k = 0; k < fractions; k++) {
      const double value = std::pow(10, -zeros) * (0.1 + 0.9 * (k + 0.5) / fractions);
      values.push_back(value), values.push_back(-value);
    }
  }
  return values;
}
double nearest(const std::vector<double>& values, double x) {
  return *std::min_element(values.begin(), values.end(), [&](double a, double b) { return std::abs(a - x) < std::abs(b - x); });
}
Tensor<double> nf4_by_definition(const Tensor<float>& w) {
  const std::vector<double> nf4 = normal_float_4(), tree = dynamic_tree();
  const std::int64_t blocks = w.size() / 64;
  std::vector<double> scales(std::size_t(blocks), 0.0), rounded(std::size_t(blocks), 0.0);
  double mean = 0;
  for (std::int64_t i = 0; i < w.size(); i++) scales[std::size_t(i / 64)] = std::max(scales[std::size_t(i / 64)], std::abs(double(w[i])));
  for (double c : scales) mean += c / double(blocks);
  for (std::size_t first = 0; first < scales.size(); first += 256) {
    double second = 0;
    const std::size_t last = std::min(scales.size(), first + 256);
    for (std::size_t b = first; b < last; b++) second = std::max(second, std::abs(scales[b] - mean));
    for (std::size_t b = first; b < last; b++) rounded[b] = nearest(tree, (scales[b] - mean) / second) * second + mean;
  }
  Tensor<double> values(w.shape());
  for (std::int64_t i = 0; i < w.size(); i++) {
    const auto b = std::size_t(i / 64);
    values[i] = scales[b] > 0 ? nearest(nf4, double(w[i]) / scales[b]) * rounded[b] : 0;
  }
  return values;
}

}  // namespace

TEMPLATE_TEST_CASE("NF4 with its double quantisation is what its definition says", "[ops]", float, double) {
  using T = TestType;
  const Tensor<float> w = random_normal<float>({61, 640}, 5, 0.02);  // 610 blocks: rows 25 and 51 lie in two groups of 256
  for (std::int64_t i = 640; i < 704; i++) w[i] = 0;
  const Tensor<double> expected = nf4_by_definition(w);
  const ops::OwnedWeight q = ops::quantized(ops::WeightView(w.view()), DType::nf4);
  CHECK(q.view.bytes() == 61 * 11 * 33);
  const Tensor<T> wide = poisoned<T>({61, 640});
  ops::widen<T>(wide.view(), q.view);
  double worst = 0, error = 0, size = 0;
  for (std::int64_t i = 0; i < w.size(); i++) {
    worst = std::max(worst, std::abs(double(wide[i]) - expected[i]));
    error += std::pow(double(wide[i]) - double(w[i]), 2), size += std::pow(double(w[i]), 2);
  }
  CHECK(worst < 3e-8);                                            // the table and the sums in float32; another code would be 1e-3 away
  CHECK(std::sqrt(error / size) == Approx(0.095).epsilon(0.05));  // of normal numbers
  Random random(5);
  for (int k = 0; k < 200; k++) {
    const std::int64_t row = std::int64_t(random.below(61)), first = std::int64_t(random.below(640)),
                       n = std::int64_t(random.below(std::uint64_t(641 - first)));
    std::vector<T> part(std::size_t(n) + 1, T(-77));
    ops::widen<T>(part.data(), q.view.row(row), DType::nf4, first, n);
    CAPTURE(row, first, n);
    CHECK(std::equal(part.begin(), part.end() - 1, wide.view().row(row) + first));
    CHECK(part.back() == T(-77));
  }
}

TEST_CASE("a weight of any storage is quantised in Hugging Face's order, on any number of threads", "[ops]") {
  const Tensor<float> w = random_normal<float>({48, 128}, 6), columns({128, 48}), rotary({48, 128});
  ops::WeightView by_columns(columns.data(), DType::f32, 48, 128), by_pairs(rotary.data(), DType::f32, 48, 128);
  by_columns.transposed = true, by_columns.stride = 48, by_pairs.rope_head_dim = 8;
  for (std::int64_t r = 0; r < 48; r++)
    for (std::int64_t c = 0; c < 128; c++) columns(c, r) = w(r, c), rotary(by_pairs.stored_row(r), c) = w(r, c);
  for (const DType type : {DType::nf4, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1}) {
    CAPTURE(name(type));
    const ops::OwnedWeight q = ops::quantized(ops::WeightView(w.view()), type);
    const auto bytes = [](const ops::OwnedWeight& of) {
      const auto* start = static_cast<const std::uint8_t*>(of.view.data);
      return Bytes(start, start + of.view.bytes());
    };
    CHECK(q.view.rope_head_dim == 0);
    CHECK_FALSE(q.view.transposed);
    if (type != DType::nf4) {
      Bytes row(std::size_t(bytes_of(type, 128)));
      ops::quantize(row.data(), type, w.view().row(47), 128);
      CHECK(std::memcmp(row.data(), q.view.row(47), row.size()) == 0);
    }
    for (const int n : {1, 2, 7}) {
      const Threads guard(n);
      CHECK(bytes(ops::quantized(by_columns, type)) == bytes(q));
      CHECK(bytes(ops::quantized(by_pairs, type)) == bytes(q));
    }
  }
  CHECK(ops::quantizable_named("x", "type", "nf4") == DType::nf4);
  CHECK_THROWS_WITH(ops::quantizable_named("load_model", "quantize", "nf5"), Catch::Contains("[load_model] quantize \"nf5\"") && Catch::Contains("\"nf4\"?"));
  CHECK_THROWS_WITH(ops::quantized(ops::WeightView(w.view()), DType::q4_k), "[quantized] Q4_K; allowed are NF4, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1");
  CHECK_THROWS_WITH(ops::quantized(ops::WeightView(rotary.data(), DType::f32, 48, 96), DType::nf4),
                    Catch::Contains("rows of 96 values are not whole blocks of 64 (NF4)"));
}

TEST_CASE("what cannot be widened or written is refused", "[ops]") {
  float out[256] = {};
  const std::uint8_t bytes[2048] = {};
  for (const DType type : {DType::i8, DType::i32, DType::u64, DType::boolean})
    CHECK_THROWS_WITH(ops::widen<float>(out, bytes, type, 0, 8), "[widen] " + std::string(name(type)) + " does not hold real numbers");
  const Tensor<float> wide({4, 32});
  CHECK_THROWS_WITH(ops::widen<float>(wide.view(), ops::WeightView(bytes, DType::q8_0, 4, 64)), "[widen] a weight of (4, 64) into (4, 32)");
  Bytes row(256);
  CHECK_THROWS_WITH(ops::quantize(row.data(), DType::q4_0, out, 33), "[quantize] a row of 33 values is not whole blocks of 32 (Q4_0)");
  CHECK_THROWS_WITH(ops::quantize(row.data(), DType::q4_k, out, 256),
                    "[quantize] Q4_K cannot be written; allowed are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1");
}
