// SPDX-License-Identifier: Apache-2.0
#include "peft/generate/sampler.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/generate/logits_processor.hpp"

namespace {
constexpr double inf = std::numeric_limits<double>::infinity();
}

TEMPLATE_TEST_CASE("argmax takes the first of the largest", "[generate]", float, double) {
  using T = TestType;
  CHECK(peft::argmax<T>(std::vector<T>{3}) == 0);
  CHECK(peft::argmax<T>(std::vector<T>{-3, -1, -1, -2, -5, -1}) == 1);
  CHECK(peft::argmax<T>(std::vector<T>{0, 0, 0, 0, 0, 0, 0, 0, 2}) == 8);
  CHECK(peft::argmax<T>(std::vector<T>{T(-inf), T(-inf), -7, T(-inf), T(-inf)}) == 2);
}

TEST_CASE("a row without a finite logit is an error", "[generate]") {
  const std::vector<float> removed(6, float(-inf)), broken(6, std::nanf(""));
  CHECK_THROWS_AS(peft::argmax<float>(removed), peft::Error);
  CHECK_THROWS_AS(peft::argmax<float>(broken), peft::Error);
  CHECK_THROWS_AS(peft::sample<float>(removed, 0.5), peft::Error);
}

TEST_CASE("a draw lands where the cumulative softmax passes u", "[generate]") {
  const std::vector<double> row = {std::log(0.2), -inf, std::log(0.5), std::log(0.3), -inf};
  CHECK(peft::sample<double>(row, 0) == 0);
  CHECK(peft::sample<double>(row, 0.199) == 0);
  CHECK(peft::sample<double>(row, 0.201) == 2);
  CHECK(peft::sample<double>(row, 0.699) == 2);
  CHECK(peft::sample<double>(row, 0.701) == 3);
  CHECK(peft::sample<double>(row, std::nextafter(1.0, 0.0)) == 3);
  CHECK(peft::log_probability<double>(row, 2) == Approx(std::log(0.5)));
}

TEST_CASE("the histogram of draws is the filtered softmax", "[generate]") {
  // χ² of 20,000 draws against temperature 0.8, and then each of the filters.
  using Filter = void (*)(std::span<float>);
  const auto filter = GENERATE(
      Filter([](std::span<float> r) { peft::logits::top_k<float>(r, 6); }), Filter([](std::span<float> r) { peft::logits::top_p<float>(r, 0.9); }),
      Filter([](std::span<float> r) { peft::logits::min_p<float>(r, 0.1); }), Filter([](std::span<float> r) { peft::logits::typical_p<float>(r, 0.8); }),
      Filter([](std::span<float> r) { peft::logits::epsilon_cutoff<float>(r, 0.04); }),
      Filter([](std::span<float> r) { peft::logits::eta_cutoff<float>(r, 0.1); }));
  const std::vector<float> logits = {0.3f, -1.2f, 2.1f, 0.9f, -0.4f, 1.7f, -3.0f, 0.0f, 1.1f};
  std::vector<float> row = logits;
  peft::logits::temperature<float>(row, 0.8);
  filter(row);
  // What is left has the probabilities that it had, together one.
  double mass = 0;
  for (std::size_t i = 0; i < row.size(); i++) mass += std::isinf(row[i]) ? 0 : std::exp(double(logits[i]) / 0.8);
  const auto wanted = [&](std::size_t i) { return std::exp(double(logits[i]) / 0.8) / mass; };
  CHECK(std::count_if(row.begin(), row.end(), [](float l) { return std::isinf(l); }) > 0);
  const std::vector<std::int32_t> prompt = {5, 7};
  const peft::SequenceRandom random(11, prompt, 0);
  std::vector<int> counts(row.size());
  constexpr int draws = 20000;
  for (int i = 0; i < draws; i++) counts[std::size_t(peft::sample<float>(row, random.uniform(i)))]++;
  double chi2 = 0;
  for (std::size_t i = 0; i < row.size(); i++) {
    if (std::isinf(row[i])) {
      CHECK(counts[i] == 0);
      continue;
    }
    const double expected = draws * wanted(i);
    chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  CHECK(chi2 < 24.4);  // 7 degrees of freedom at most: one run in a thousand would be beyond
}

TEST_CASE("random numbers depend on seed, prompt, answer and step alone", "[generate]") {
  const std::vector<std::int32_t> a = {1, 2, 3}, b = {1, 2, 4};
  const peft::SequenceRandom one(5, a, 0);
  CHECK(one.uniform(3) == peft::SequenceRandom(5, a, 0).uniform(3));
  CHECK(one.uniform(3) != one.uniform(4));
  CHECK(one.uniform(3) != peft::SequenceRandom(6, a, 0).uniform(3));
  CHECK(one.uniform(3) != peft::SequenceRandom(5, b, 0).uniform(3));
  CHECK(one.uniform(3) != peft::SequenceRandom(5, a, 1).uniform(3));
  double mean = 0;
  for (int i = 0; i < 10000; i++) {
    const double u = one.uniform(i);
    REQUIRE((u >= 0 && u < 1));
    mean += u / 10000;
  }
  CHECK(mean == Approx(0.5).margin(0.015));
}
