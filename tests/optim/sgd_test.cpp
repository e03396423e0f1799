// SPDX-License-Identifier: Apache-2.0
#include "peft/optim/sgd.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

static_assert(Optimizer<Sgd<float>>);

TEMPLATE_TEST_CASE("ten steps of SGD follow the formula", "[optim]", float, double) {
  using T = TestType;
  const std::vector<Shape> sizes = {{5, 7}, {3}, {33, 20}};
  for (const double momentum : {0.0, 0.9})
    for (const double decay : {0.0, 0.1}) {
      CAPTURE(momentum, decay);
      std::vector<Trainable<T>> all;
      std::vector<Array> p, buffer;
      for (std::size_t i = 0; i < sizes.size(); i++) {
        all.push_back({"p" + std::to_string(i), Parameter<T>(random_normal<T>(sizes[i], i + 1), true)});
        p.push_back(array(all[i].parameter.value())), buffer.push_back(p[i] * 0);
      }
      all[1].lr_scale = 4, all[2].decay_scale = 0.5;
      Sgd<T> optimizer(all, {.momentum = momentum, .weight_decay = decay});
      for (int step = 0; step < 10; step++) {
        for (std::size_t i = 0; i < all.size(); i++) {
          const Tensor<T> g = random_normal<T>(sizes[i], 100 + 10 * std::uint64_t(step) + i);
          zero_grad(std::vector{all[i]});
          all[i].parameter.gradient().add(g);
          // torch.optim.SGD: the decay joins the gradient, before the momentum.
          const Array d = array(g) + decay * (i == 2 ? 0.5 : 1) * p[i];
          buffer[i] = momentum * buffer[i] + d;
          p[i] = p[i] - 0.05 * (i == 1 ? 4 : 1) * (momentum > 0 ? buffer[i] : d);
        }
        const std::uint64_t version = all[0].parameter.version();
        optimizer.step(0.05);
        CHECK(all[0].parameter.version() > version);
        for (std::size_t i = 0; i < all.size(); i++) CHECK_THAT(array(all[i].parameter.value()), is_near<T>(p[i], 2));
      }
      std::size_t states = 0;
      optimizer.for_each_state([&](const std::string& name, const Tensor<T>& tensor) {
        CHECK(name == "p" + std::to_string(states) + ".momentum");
        CHECK_THAT(array(tensor), is_near<T>(buffer[states], 2));
        states++;
      });
      CHECK(states == (momentum > 0 ? 3 : 0));
    }
}

TEST_CASE("SGD passes over what has no gradient", "[optim]") {
  const Parameter<float> p(random_normal<float>({4}), true);
  const Tensor<float> before = p.value().clone();
  Sgd<float>({{"p", p}}, {.momentum = 0.9, .weight_decay = 0.1}).step(1);
  CHECK(same_bits(p.value(), before));
}

TEST_CASE("SGD refuses impossible settings", "[optim]") {
  CHECK_THROWS_WITH(Sgd<float>({}, {.momentum = 1}), "[sgd] momentum is 1.000000; allowed is 0 ≤ momentum < 1");
  CHECK_THROWS_AS(Sgd<float>({}, {.momentum = -0.5}), ConfigError);
  CHECK_THROWS_AS(Sgd<float>({}, {.weight_decay = -1}), ConfigError);
}
