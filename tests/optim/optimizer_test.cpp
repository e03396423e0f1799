// SPDX-License-Identifier: Apache-2.0
// The norm of all gradients, and clipping by it.
#include "peft/optim/optimizer.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>
#include <xtensor/xmath.hpp>

#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
template <class T>
std::vector<Trainable<T>> with_gradients() {
  std::vector<Trainable<T>> all;
  for (const Shape& shape : std::vector<Shape>{{5, 7}, {3}, {700, 30}, {2, 2}}) {
    all.push_back({"p", Parameter<T>(Tensor<T>::zeros(shape), true)});
    if (all.size() != 4) all.back().parameter.gradient().add(random_normal<T>(shape, all.size()));  // the last one has none
  }
  return all;
}
template <class T>
double norm_by_hand(const std::vector<Trainable<T>>& all) {
  double sum = 0;
  for (const auto& t : all)
    if (t.parameter.grad()) {
      const Array g = array(t.parameter.grad());
      sum += xt::sum(g * g)();
    }
  return std::sqrt(sum);
}
}  // namespace

TEMPLATE_TEST_CASE("the norm is over all tensors, in double, with the same bits on any number of threads", "[optim]", float, double) {
  const auto all = with_gradients<TestType>();
  const double norm = grad_norm(all);
  CHECK(norm == Approx(norm_by_hand(all)).epsilon(1e-13));
  CHECK(norm > 100);
  for (const int n : {1, 2, 4}) {
    const Threads guard(n);
    CHECK(grad_norm(all) == norm);
  }
  CHECK(grad_norm(std::vector<Trainable<TestType>>{}) == 0);
}

TEMPLATE_TEST_CASE("clipping scales every gradient by one factor", "[optim]", float, double) {
  using T = TestType;
  const auto all = with_gradients<T>();
  std::vector<Array> before;
  for (const auto& t : all)
    if (t.parameter.grad()) before.push_back(array(t.parameter.grad()));
  const double norm = grad_norm(all);
  CHECK(clip_grad_norm(all, 2.5) == norm);  // it returns the norm before
  CHECK(norm_by_hand(all) == Approx(2.5).epsilon(1e-6));
  for (std::size_t i = 0; i < before.size(); i++) CHECK_THAT(array(all[i].parameter.grad()), is_near<T>(before[i] * (2.5 / (norm + 1e-6))));
  CHECK_FALSE(all[3].parameter.grad());
}

TEST_CASE("a norm below the bound changes no bit", "[optim]") {
  const auto all = with_gradients<float>();
  std::vector<Tensor<float>> before;
  for (const auto& t : all) before.push_back(t.parameter.grad() ? t.parameter.grad().clone() : Tensor<float>());
  CHECK(clip_grad_norm(all, grad_norm(all) * 1.001) == grad_norm(all));
  for (std::size_t i = 0; i < 3; i++) CHECK(same_bits(all[i].parameter.grad(), before[i]));
}

TEST_CASE("a gradient that somebody else holds is not written to", "[optim]") {
  const Parameter<double> p(Tensor<double>::zeros({4}), true);
  const Tensor<double> held = random_normal<double>({4}), kept = held.clone();
  p.gradient().add(held);
  clip_grad_norm(std::vector<Trainable<double>>{{"p", p}}, 0.01);
  CHECK(same_bits(held, kept));
  CHECK(p.grad()[0] != held[0]);
}

TEST_CASE("a norm that is not finite is reported, and spreads nowhere", "[optim]") {
  const auto all = with_gradients<double>();
  all[1].parameter.grad()[0] = std::numeric_limits<double>::infinity();
  const double kept = all[0].parameter.grad()[0];
  CHECK_FALSE(std::isfinite(clip_grad_norm(all, 1)));
  CHECK(all[0].parameter.grad()[0] == kept);
}
