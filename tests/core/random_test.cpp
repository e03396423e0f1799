// SPDX-License-Identifier: Apache-2.0
#include "peft/core/random.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <vector>

using namespace peft;

TEST_CASE("philox gives the numbers that its authors published", "[core]") {
  using Block = std::array<std::uint32_t, 4>;
  // Random123's kat_vectors, philox4x32 with 10 rounds
  CHECK(philox(0, 0, 0) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox(~0ull, ~0ull, ~0ull) == Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e) == Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a stream restored anywhere goes on as it would have", "[core]") {
  for (int drawn = 0; drawn < 9; drawn++) {
    CAPTURE(drawn);
    Random random(3);
    for (int i = 0; i < drawn; i++) random.bits();
    const Random::State state = random.state();
    Random other(99);
    other.bits();
    other.restore(state);
    for (int i = 0; i < 9; i++) REQUIRE(other.bits() == random.bits());
  }
}

TEST_CASE("streams of other seeds and forks are other streams", "[core]") {
  Random a(1), b(2), again(1);
  Random fork = a.fork(0), other_fork = a.fork(1), same_fork = again.fork(0);
  std::vector<std::uint64_t> first;
  for (Random* r : {&a, &b, &fork, &other_fork}) first.push_back(r->bits64());
  std::ranges::sort(first);
  CHECK(std::ranges::adjacent_find(first) == first.end());
  Random fresh = Random(1).fork(0);
  const std::uint64_t number = same_fork.bits64();
  CHECK(number == fresh.bits64());  // what a stream has drawn does not change its forks
}

TEST_CASE("uniform and normal have their moments", "[core]") {
  Random random(5);
  const int n = 200000;
  double sum = 0, squares = 0, least = 1, most = 0, normal_sum = 0, normal_squares = 0, normal_cubes = 0, normal_fourth = 0;
  for (int i = 0; i < n; i++) {
    const double u = random.uniform(), z = random.normal();
    sum += u, squares += u * u, least = std::min(least, u), most = std::max(most, u);
    normal_sum += z, normal_squares += z * z, normal_cubes += z * z * z, normal_fourth += z * z * z * z;
  }
  CHECK(least >= 0);
  CHECK(most < 1);
  CHECK(sum / n == Approx(0.5).margin(0.003));
  CHECK(squares / n == Approx(1.0 / 3).margin(0.003));
  CHECK(normal_sum / n == Approx(0).margin(0.01));
  CHECK(normal_squares / n == Approx(1).margin(0.02));
  CHECK(normal_cubes / n == Approx(0).margin(0.05));
  CHECK(normal_fourth / n == Approx(3).margin(0.1));
}

TEST_CASE("below is even, and never reaches its bound", "[core]") {
  Random random(6);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; i++) counts.at(random.below(7))++;
  for (int count : counts) CHECK(count == Approx(10000).margin(500));
  CHECK(random.below(1) == 0);
  for (int i = 0; i < 1000; i++) REQUIRE(random.below((1ull << 63) + 1) <= 1ull << 63);
}

TEST_CASE("shuffle permutes, and every place can get every element", "[core]") {
  Random random(7);
  std::vector<std::vector<int>> seen(5, std::vector<int>(5));
  for (int round = 0; round < 5000; round++) {
    std::vector<int> order(5);
    std::iota(order.begin(), order.end(), 0);
    random.shuffle(order);
    for (std::size_t place = 0; place < 5; place++) seen[place][std::size_t(order[place])]++;
    std::ranges::sort(order);
    REQUIRE(order == std::vector<int>{0, 1, 2, 3, 4});
  }
  for (const auto& row : seen)
    for (int count : row) CHECK(count == Approx(1000).margin(160));
}

TEST_CASE("dropout drops a share p and keeps the mean", "[core]") {
  for (const double p : {0.0, 0.1, 0.5, 0.9}) {
    const DropoutKey key{mix(1, 2), p};
    int dropped = 0;
    double sum = 0;
    for (std::uint64_t row = 0; row < 100; row++)
      for (std::uint64_t column = 0; column < 1000; column++) {
        const double factor = key.factor<double>(row, column);
        dropped += factor == 0, sum += factor;
        REQUIRE((factor == 0 || factor == 1 / (1 - p)));
      }
    CHECK(dropped / 1e5 == Approx(p).margin(0.005));
    CHECK(sum / 1e5 == Approx(1).margin(0.03));
  }
}
