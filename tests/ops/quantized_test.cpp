// SPDX-License-Identifier: Apache-2.0
// Every storage type against its definition: what is widened, what is written.
#include "peft/ops/quantized.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/stored_types.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

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
