// SPDX-License-Identifier: Apache-2.0
#include "peft/autograd/functions/target_loss.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "peft/autograd/functions/elementwise.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

TEST_CASE("losses against numbers, by their formulas", "[autograd]") {
  const auto x = random_normal<double>({3, 2}, 1);
  Tensor<double> t({3, 2});
  for (std::int64_t i = 0; i < 6; i++) t[i] = double(i % 3) / 2;
  double squares = 0, entropy = 0;
  for (std::int64_t i = 0; i < 6; i++) {
    const double p = 1 / (1 + std::exp(-x[i]));
    squares += (x[i] - t[i]) * (x[i] - t[i]) / 6, entropy -= (t[i] * std::log(p) + (1 - t[i]) * std::log(1 - p)) / 6;
  }
  CHECK(mse_loss(Variable<double>(x), t).value()[0] == Approx(squares).epsilon(1e-14));
  CHECK(binary_cross_entropy_with_logits(Variable<double>(x), t).value()[0] == Approx(entropy).epsilon(1e-14));
  CHECK(gradcheck([&](const Variables& v) { return mse_loss(v[0], t); }, {x}));
  CHECK(gradcheck([&](const Variables& v) { return binary_cross_entropy_with_logits(v[0], t); }, {x}));
  CHECK_THROWS_WITH(mse_loss(Variable<double>(x), Tensor<double>({3, 1})), Catch::Contains("outputs (3, 2) against targets (3, 1)"));
}

TEST_CASE("certain outputs of a binary cross-entropy do not overflow", "[autograd]") {
  const Tensor<float> x({1, 2}, std::vector<float>{500, -500}), wrong({1, 2}, std::vector<float>{0, 1}), right({1, 2}, std::vector<float>{1, 0});
  CHECK(binary_cross_entropy_with_logits(Variable<float>(x), wrong).value()[0] == 500);
  CHECK(binary_cross_entropy_with_logits(Variable<float>(x), right).value()[0] == 0);
}

TEST_CASE("a reshaped variable is a view where it can be, and its gradient comes back in the first shape", "[autograd]") {
  const auto x = random_normal<double>({4, 6}, 2);
  const Variable<double> whole(x);
  CHECK(reshape(whole, {8, 3}).value().data() == x.data());
  CHECK(gradcheck([](const Variables& v) { return reshape(v[0], {8, 3}); }, {x}));
  const auto part = reshape(columns(whole, 1, 5), {8, 2});
  CHECK(part.value()(1, 0) == x(0, 3));
  CHECK(gradcheck([](const Variables& v) { return reshape(columns(v[0], 1, 5), {8, 2}); }, {x}));
}
