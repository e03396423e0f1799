// SPDX-License-Identifier: Apache-2.0
#include "peft/autograd/checkpoint.hpp"

#include <catch2/catch.hpp>
#include <vector>

#include "peft/autograd/autograd.hpp"
#include "support/gradients.hpp"

using namespace peft;
using namespace peft::testing;

TEST_CASE("checkpoint gradient", "[autograd][gradcheck]") {
  const auto W = trained({6, 6}, 2), fixed = frozen({6, 6}, 3);
  const auto deep = [&](const Variable<double>& x) { return activation(linear(activation(linear(x, W), Activation::tanh), fixed), Activation::silu); };
  CHECK(gradcheck([&](const Variables& v) { return checkpoint<double>(deep, v[0]); }, {normal({3, 6})}, {W}));
  CHECK(gradcheck([&](const Variables& v) { return checkpoint<double>(deep, checkpoint<double>(deep, v[0])); }, {normal({3, 6})}, {W}));
  CHECK(gradcheck(  // one within another
      [&](const Variables& v) { return checkpoint<double>([&](const Variable<double>& x) { return linear(checkpoint<double>(deep, x), W); }, v[0]); },
      {normal({3, 6})}, {W}));
  const Variable<double> data(normal({3, 6}));
  CHECK(gradcheck([&](const Variables&) { return checkpoint<double>(deep, data); }, {}, {W}));
  CHECK(gradcheck([](const Variables& v) { return checkpoint<double>([](const Variable<double>& x) { return x; }, v[0]); }, {normal({3, 6})}));
  CHECK(gradcheck([](const Variables& v) { return checkpoint<double>([](const Variable<double>& x) { return multiply(x, x); }, v[0]); }, {normal({3, 6})}));
}

TEST_CASE("variables captured from outside get their gradients through a checkpoint", "[autograd][gradcheck]") {
  // as the keys of a prefix do: computed outside, read within
  const auto W = trained({6, 6}, 2);
  const auto f = [&](const Variables& v) {
    const Variable<double> made = activation(linear(v[1], W), Activation::tanh);
    const auto block = [made](const Variable<double>& x) { return multiply(x, made); };
    return checkpoint<double>(block, checkpoint<double>(block, v[0]));
  };
  CHECK(gradcheck(f, {normal({3, 6}), normal({3, 6}, 2)}, {W}));
  const Variable<double> data(normal({3, 6}));
  CHECK(gradcheck([&](const Variables& v) { return f({data, v[0]}); }, {normal({3, 6}, 2)}, {W}));
}

TEST_CASE("a checkpoint runs twice, keeps its input alone and changes no bit", "[autograd]") {
  const auto W = trained({64, 64}, 2);
  int runs = 0;
  const auto deep = [&](const Variable<double>& x) {
    runs++;
    Variable<double> y = x;
    for (int i = 0; i < 10; i++) y = activation(linear(y, W), Activation::tanh);
    return y;
  };
  const Tensor<double> x = normal({50, 64}), seed = normal({50, 64}, 9);
  const auto train = [&](bool saving, std::int64_t& held) {
    W.zero_grad();
    Tape tape;
    const Variable<double> in(x, true);
    const std::int64_t before = memory::statistics().in_use;
    const Variable<double> y = saving ? checkpoint<double>(deep, in) : deep(in);
    held = memory::statistics().in_use - before;
    CHECK(tape.nodes() == (saving ? 1 : 20));
    tape.backward(y, seed.clone());
    return std::vector{y.value(), in.grad(), W.grad()};
  };
  std::int64_t held_plain = 0, held_saving = 0;
  const auto plain = train(false, held_plain);
  CHECK(runs == 1);
  const auto saving = train(true, held_saving);
  CHECK(runs == 3);
  for (std::size_t i = 0; i < 3; i++) CHECK(same_bits(plain[i], saving[i]));
  CHECK(held_saving < held_plain / 8);
}

TEST_CASE("a checkpoint of nothing that trains, or without a tape, is the function alone", "[autograd]") {
  int runs = 0;
  const auto f = [&](const Variable<double>& x) { return runs++, scale(x, 2.0); };
  checkpoint<double>(f, Variable<double>(normal({2, 2}), true));
  CHECK(runs == 1);
  Tape tape;
  const auto y = checkpoint<double>(f, Variable<double>(normal({2, 2})));
  CHECK(runs == 2);
  CHECK_FALSE(y.needs_grad());
  CHECK(tape.nodes() == 0);
}
