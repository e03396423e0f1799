// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/rope.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

std::vector<double> frequencies(std::int64_t half) {
  std::vector<double> f;
  for (std::int64_t i = 0; i < half; i++) f.push_back(std::pow(10000.0, -double(i) / double(half)));
  return f;
}
// Each pair as a complex number, times e^(i · position · frequency).
Array turned(const Array& x, const std::vector<std::int32_t>& positions, const std::vector<double>& f, std::size_t head_dim, bool interleaved) {
  Array y = x;
  const std::size_t half = f.size();
  for (std::size_t n = 0; n < x.shape(0); n++)
    for (std::size_t h = 0; h < x.shape(1) / head_dim; h++)
      for (std::size_t i = 0; i < half; i++) {
        const std::size_t a = h * head_dim + (interleaved ? 2 * i : i), b = h * head_dim + (interleaved ? 2 * i + 1 : i + half);
        const double angle = double(positions[n]) * f[i];
        y(n, a) = x(n, a) * std::cos(angle) - x(n, b) * std::sin(angle), y(n, b) = x(n, b) * std::cos(angle) + x(n, a) * std::sin(angle);
      }
  return y;
}

}  // namespace

TEMPLATE_TEST_CASE("rope turns pairs by position times frequency", "[ops]", float, double) {
  using T = TestType;
  const std::vector<std::int32_t> positions = {0, 3, 1, 63, 7};
  struct Heads {
    std::int64_t head_dim, half, heads;
  };
  for (const auto& [head_dim, half, heads] : std::vector<Heads>{{64, 32, 3}, {8, 4, 2}, {24, 12, 1}, {80, 20, 2}, {7, 3, 2}, {128, 64, 1}})
    for (bool interleaved : {false, true}) {
      CAPTURE(head_dim, half, heads, interleaved);
      const std::vector<double> f = frequencies(half);
      const Tensor<T> cos = poisoned<T>({64, half}), sin = poisoned<T>({64, half});
      ops::rope_table<T>(cos, sin, f);
      const Tensor<T> x = random_normal<T>({5, heads * head_dim}), y = with_gaps(x);
      ops::rope<T>(y, positions, cos, sin, head_dim, interleaved, false);
      const double tolerance = sizeof(T) == 4 ? 2e-5 : 1e-13;  // the angle itself is rounded
      CHECK_THAT(array(y), IsNear(turned(array(x), positions, f, std::size_t(head_dim), interleaved), tolerance));
      ops::rope<T>(y, positions, cos, sin, head_dim, interleaved, true);
      CHECK_THAT(array(y), is_near<T>(array(x)));
    }
}

TEST_CASE("the opposite rotation is the gradient", "[ops][gradcheck]") {
  const std::vector<std::int32_t> positions = {2, 9, 4};
  const Tensor<double> cos({10, 3}), sin({10, 3});
  ops::rope_table<double>(cos, sin, frequencies(3), 1.3);  // scaled, as YaRN has it
  for (bool interleaved : {false, true}) {
    const Tensor<double> x = random_normal<double>({3, 16}), dy = random_normal<double>({3, 16}, 2);
    const auto f = [&] {
      const Tensor<double> y = x.clone();
      ops::rope<double>(y, positions, cos, sin, 8, interleaved, false);
      return dot(y, dy);
    };
    const Array want = differences(x, f);
    const Tensor<double> dx = dy.clone();
    ops::rope<double>(dx, positions, cos, sin, 8, interleaved, true);
    CHECK_THAT(array(dx), IsNear(want, 1e-6));
  }
}

TEST_CASE("float angles are float products, as the reference has them", "[ops]") {
  const std::vector<double> f = frequencies(32);
  const Tensor<float> cos({8192, 32}), sin({8192, 32});
  ops::rope_table<float>(cos, sin, f, 0.5f);
  for (std::int64_t p : {1, 4095, 8191})
    for (std::int64_t i : {0, 1, 31}) {
      const float angle = float(p) * float(f[std::size_t(i)]);
      CHECK(cos(p, i) == Approx(0.5 * std::cos(double(angle))).margin(1e-7));
      CHECK(sin(p, i) == Approx(0.5 * std::sin(double(angle))).margin(1e-7));
    }
}

TEST_CASE("rope refuses what does not fit", "[ops]") {
  const Tensor<float> cos({4, 2}), sin({4, 2}), x({2, 8});
  const std::vector<std::int32_t> good = {0, 3}, far = {0, 4}, negative = {-1, 0}, few = {0};
  CHECK_NOTHROW(ops::rope<float>(x, good, cos, sin, 4, false, false));
  CHECK_THROWS_AS(ops::rope<float>(x, far, cos, sin, 4, false, false), ShapeError);
  CHECK_THROWS_AS(ops::rope<float>(x, negative, cos, sin, 4, false, false), ShapeError);
  CHECK_THROWS_AS(ops::rope<float>(x, few, cos, sin, 4, false, false), ShapeError);
  CHECK_THROWS_AS(ops::rope<float>(x, good, cos, sin, 3, false, false), ShapeError);
}
