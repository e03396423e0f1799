// SPDX-License-Identifier: Apache-2.0
#include "peft/optim/adamw.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>
#include <xtensor/xmath.hpp>

#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

const std::vector<Shape> shapes = {{5, 7}, {3}, {1, 1}, {33, 20}};
template <class T>
std::vector<Trainable<T>> some_parameters() {
  std::vector<Trainable<T>> all;
  for (std::size_t i = 0; i < shapes.size(); i++) all.push_back({"p" + std::to_string(i), Parameter<T>(random_normal<T>(shapes[i], i + 1), true)});
  return all;
}
template <class T>
Tensor<T> gradient(std::size_t parameter, int step) {
  return random_normal<T>(shapes[parameter], 1000 + 10 * std::uint64_t(step) + parameter, step % 3 ? 1 : 1e-3);
}
template <class T>
void give_gradients(const std::vector<Trainable<T>>& all, int step) {
  zero_grad(all);
  for (std::size_t i = 0; i < all.size(); i++) all[i].parameter.gradient().add(gradient<T>(i, step));
}

// torch.optim.AdamW, written as in its documentation.
struct Oracle {
  Array p, m, v;
  explicit Oracle(const Array& start) : p(start), m(xt::zeros_like(start)), v(xt::zeros_like(start)) {}
  void step(const Array& g, int t, double lr, double decay, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8) {
    p = p - lr * decay * p;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    const Array m_hat = m / (1 - std::pow(beta1, t)), v_hat = v / (1 - std::pow(beta2, t));
    p = p - lr * m_hat / (xt::sqrt(v_hat) + eps);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("ten steps of AdamW follow the formula", "[optim]", float, double) {
  using T = TestType;
  for (const double decay : {0.0, 0.1}) {
    auto all = some_parameters<T>();
    AdamW<T> optimizer(all, {.weight_decay = decay});
    std::vector<Oracle> oracles;
    for (const auto& t : all) oracles.emplace_back(array(t.parameter.value()));
    for (int step = 1; step <= 10; step++) {
      const double lr = 0.01 * step;
      give_gradients(all, step);
      optimizer.step(lr);
      CHECK(optimizer.steps() == step);
      std::size_t i = 0;
      for (auto& oracle : oracles) {
        oracle.step(array(gradient<T>(i, step)), step, lr, decay);
        CAPTURE(step, i, decay);
        CHECK_THAT(array(all[i].parameter.value()), is_near<T>(oracle.p, 2));
        i++;
      }
      // The moments themselves: a coefficient that is off shows here long before it shows in p.
      std::size_t state = 0;
      optimizer.for_each_state([&](const std::string& name, const Tensor<T>& tensor) {
        const bool first = state % 2 == 0;
        CHECK(name == "p" + std::to_string(state / 2) + (first ? ".exp_avg" : ".exp_avg_sq"));
        CHECK_THAT(array(tensor), is_near<T>(first ? oracles[state / 2].m : oracles[state / 2].v));
        state++;
      });
      CHECK(state == 8);
    }
  }
}

TEST_CASE("betas and eps are the config's; eps stands outside the root", "[optim]") {
  auto all = some_parameters<double>();
  AdamW<double> optimizer(all, {.beta1 = 0.5, .beta2 = 0.75, .eps = 0.3, .weight_decay = 0});
  Oracle oracle(array(all[0].parameter.value()));
  for (int step = 1; step <= 10; step++) {
    give_gradients(all, step);
    optimizer.step(0.1);
    oracle.step(array(gradient<double>(0, step)), step, 0.1, 0, 0.5, 0.75, 0.3);
  }
  CHECK_THAT(array(all[0].parameter.value()), is_near<double>(oracle.p));
}

TEST_CASE("a first step is lr in the gradient's direction, however large the gradient", "[optim]") {
  const Parameter<double> p(Tensor<double>({4}, 0.0), true);
  AdamW<double> optimizer({{"p", p}}, {.weight_decay = 0});
  const std::vector<double> g = {1e-3, -1, 5, -1e6};
  p.gradient().add(Tensor<double>({4}, std::span<const double>(g)));
  optimizer.step(0.1);
  for (std::int64_t i = 0; i < 4; i++) CHECK(p.value()[i] == Approx(g[std::size_t(i)] < 0 ? 0.1 : -0.1).epsilon(1.1e-5));
}

TEST_CASE("rates scale by parameter", "[optim]") {
  auto all = some_parameters<double>();
  all[0].lr_scale = 16, all[1].decay_scale = 0;
  AdamW<double> optimizer(all, {.weight_decay = 0.1});
  std::vector<Oracle> oracles;
  for (const auto& t : all) oracles.emplace_back(array(t.parameter.value()));
  for (int step = 1; step <= 3; step++) {
    give_gradients(all, step);
    optimizer.step(0.01);
    for (std::size_t i = 0; i < all.size(); i++) oracles[i].step(array(gradient<double>(i, step)), step, i == 0 ? 0.16 : 0.01, i == 1 ? 0 : 0.1);
  }
  for (std::size_t i = 0; i < all.size(); i++) CHECK_THAT(array(all[i].parameter.value()), is_near<double>(oracles[i].p));
}

TEST_CASE("as transformers had it, eps is beside the root of v itself, and decay comes behind the step", "[optim]") {
  auto all = some_parameters<double>();
  AdamW<double> optimizer(all, {.eps = 0.3, .weight_decay = 0.1, .as_transformers = true});
  Array p = array(all[0].parameter.value()), m = xt::zeros_like(p), v = xt::zeros_like(p);
  for (int step = 1; step <= 5; step++) {
    give_gradients(all, step);
    optimizer.step(0.02);
    const Array g = array(gradient<double>(0, step));
    m = 0.9 * m + 0.1 * g, v = 0.999 * v + 0.001 * g * g;
    p = p - 0.02 * std::sqrt(1 - std::pow(0.999, step)) / (1 - std::pow(0.9, step)) * m / (xt::sqrt(v) + 0.3);
    p = p * (1 - 0.02 * 0.1);
  }
  CHECK_THAT(array(all[0].parameter.value()), is_near<double>(p));
}

TEST_CASE("a parameter without a gradient stays, decay included", "[optim]") {
  auto all = some_parameters<float>();
  AdamW<float> optimizer(all, {.weight_decay = 0.1});
  give_gradients(all, 1);
  all[1].parameter.zero_grad();
  const Tensor<float> before = all[1].parameter.value().clone();
  const std::uint64_t version = all[1].parameter.version(), other = all[0].parameter.version();
  optimizer.step(0.1);
  CHECK(same_bits(all[1].parameter.value(), before));
  CHECK(all[1].parameter.version() == version);
  CHECK(all[0].parameter.version() > other);
}

TEST_CASE("a tensor that two sites share is stepped once", "[optim]") {
  const Parameter<double> shared(random_normal<double>({3}), true);
  AdamW<double> optimizer({{"embed", shared}, {"head", shared}}, {.weight_decay = 0});
  REQUIRE(optimizer.trainables().size() == 1);
  CHECK(optimizer.trainables()[0].name == "embed");
}

TEST_CASE("impossible settings are refused", "[optim]") {
  CHECK_THROWS_WITH(AdamW<float>({}, {.beta1 = 1}), "[adamw] betas are 1.000000, 0.999000; allowed is 0 ≤ β < 1");
  CHECK_THROWS_AS(AdamW<float>({}, {.beta2 = -0.1}), ConfigError);
  CHECK_THROWS_AS(AdamW<float>({}, {.eps = -1}), ConfigError);
  CHECK_THROWS_AS(AdamW<float>({}, {.weight_decay = NAN}), ConfigError);
}
