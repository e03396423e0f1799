// SPDX-License-Identifier: Apache-2.0
#include "peft/autograd/tape.hpp"

#include <catch2/catch.hpp>
#include <stdexcept>
#include <thread>
#include <vector>

#include "peft/autograd/autograd.hpp"
#include "support/gradients.hpp"

using namespace peft;
using namespace peft::testing;

TEST_CASE("a function none of whose inputs needs a gradient records nothing", "[autograd]") {
  Tape tape;
  const Variable<double> x(normal({4, 6})), y(normal({4, 6}, 2)), small(normal({4, 2}, 3));
  const auto W = frozen({6, 6}, 3), w = frozen({6}, 4), b = frozen({6}, 5), A = frozen({2, 6}, 6), B = frozen({6, 2}, 7);
  const std::vector<std::int32_t> ids = {1, 0, 3, 3};
  const auto positions = std::make_shared<const Ids>(Ids{0, 1, 2, 3});
  RotaryTable<double> table{normal({4, 3}), normal({4, 3}), 6, false};
  const Dropping drop{{7, 0.5}, std::make_shared<const RowKeys>(RowKeys{1, 2, 3, 4})};
  AttentionSpans<double> spans(1);
  spans[0].end = 4, spans[0].prefix_k = spans[0].prefix_v = Variable<double>(normal({2, 6}));

  const std::vector<Variable<double>> results = {linear(x, W, b),
                                                 embedding<double>(ids, W),
                                                 rms_norm(x, w, 1e-5),
                                                 layer_norm(x, w, b, 1e-5),
                                                 activation(x, Activation::gelu),
                                                 gated(x, y, Activation::silu),
                                                 add(x, y),
                                                 scale(x, 2.0),
                                                 multiply(x, y),
                                                 rows(x, 1, 2),
                                                 columns(x, 1, 2),
                                                 concat_rows<double>(std::vector{x, y}),
                                                 rope(x, positions, table),
                                                 dropout(x, drop),
                                                 low_rank_update(y, x, A, B, 1.0, drop),
                                                 attention<double>(x, x, y, spans, {1, 1, 6, 1, true, 0}),
                                                 linear_cross_entropy(x, W, b, ids),
                                                 cross_entropy(x, ids),
                                                 checkpoint<double>([&](const Variable<double>& in) { return linear(in, W); }, x)};
  CHECK(tape.nodes() == 0);
  for (const auto& result : results) CHECK_FALSE(result.needs_grad());
}

TEST_CASE("any input that needs a gradient makes a function recorded, once", "[autograd]") {
  const Variable<double> data(normal({4, 6})), x(normal({4, 6}), true);
  const auto W = frozen({6, 6}, 3), trained_W = trained({6, 6}, 3), b = trained({6}, 5);
  const auto nodes = [](const auto& f) {
    Tape tape;
    f();
    return tape.nodes();
  };
  CHECK(nodes([&] { return linear(x, W); }) == 1);
  CHECK(nodes([&] { return linear(data, trained_W); }) == 1);
  CHECK(nodes([&] { return linear(data, W, b); }) == 1);
  CHECK(nodes([&] { return add(data, x); }) == 1);
  CHECK(nodes([&] { return multiply(x, data); }) == 1);
  CHECK(nodes([&] { return linear(linear(linear(data, W), W), trained_W); }) == 1);  // below the lowest trainable site: inference
  CHECK(nodes([&] { return checkpoint<double>([&](const Variable<double>& in) { return linear(linear(in, W), trained_W); }, data); }) == 1);
  AttentionSpans<double> spans(1);
  spans[0].end = 4, spans[0].prefix_k = Variable<double>(normal({2, 6})), spans[0].prefix_v = Variable<double>(normal({2, 6}), true);
  CHECK(nodes([&] { return attention<double>(data, data, data, spans, {1, 1, 6, 1, true, 0}); }) == 1);
}

TEST_CASE("without a tape, or under NoGrad, nothing is recorded", "[autograd]") {
  const Variable<double> x(normal({4, 6}), true);
  const auto W = trained({6, 6}, 3);
  CHECK_FALSE(linear(x, W).needs_grad());
  Tape tape;
  {
    NoGrad guard;
    CHECK(Tape::current() == nullptr);
    CHECK_FALSE(linear(x, W).needs_grad());
    CHECK_FALSE(recording(true));
  }
  CHECK(Tape::current() == &tape);
  CHECK(tape.nodes() == 0);
  CHECK(linear(x, W).needs_grad());
  CHECK(tape.nodes() == 1);
}

TEST_CASE("tapes nest, and each thread has its own", "[autograd]") {
  const Variable<double> x(normal({4, 6}), true);
  Tape outer;
  {
    Tape inner;
    CHECK(Tape::current() == &inner);
    scale(x, 2.0);
    CHECK(inner.nodes() == 1);
    std::thread([&] { CHECK(Tape::current() == nullptr); }).join();
  }
  CHECK(Tape::current() == &outer);
  CHECK(outer.nodes() == 0);
}

TEST_CASE("a frozen weight gets no gradient, and x is not kept for one", "[autograd]") {
  const std::int64_t n = 1000;
  const auto W = frozen({n, n}, 3);  // 8 MB
  Variable<double> x(normal({2, n}), true);
  Tape tape;
  const Variable<double> y = linear(x, W);
  CHECK(x.value().sole_holder());
  memory::reset_peak();
  const std::int64_t before = memory::statistics().in_use;
  tape.backward(y, normal({2, n}));
  CHECK(memory::statistics().peak - before < n * n * 8 / 2);  // no dW was formed, not even for a while
  CHECK_FALSE(W.gradient());
  CHECK_FALSE(W.grad());
  CHECK(x.grad().shape() == Shape{2, n});
}

TEST_CASE("backward frees what was saved as it goes, and consumes the tape", "[autograd]") {
  const Variable<double> x(normal({4, 6}), true);
  const auto W = trained({6, 6}, 3);
  Variable<double> y = linear(x, W);
  Tape tape;
  y = linear(x, W);
  for (int i = 0; i < 9; i++) y = activation(y, Activation::tanh);
  CHECK(tape.nodes() == 10);
  CHECK_FALSE(x.value().sole_holder());
  bool first_freed = false;
  {
    auto gradient = Gradient<double>::make({4, 6});
    const Tensor<double> saved = normal({4, 6});
    Tape other;
    other.record([&, gradient] { first_freed = saved.sole_holder(); });  // runs second
    other.record([saved] {});                                            // runs first, and lets go
    other.backward(Variable<double>(normal({1, 1}), true), normal({1, 1}));
  }
  CHECK(first_freed);
  tape.backward(y, normal({4, 6}));
  CHECK(tape.nodes() == 0);
  CHECK(x.value().sole_holder());
  CHECK(x.grad());
}

TEST_CASE("gradients of leaves add up over several backwards", "[autograd]") {
  const auto W = trained({3, 4}, 2);
  const Variable<double> x(normal({5, 4}));
  const auto run = [&] {
    Tape tape;
    tape.backward(linear(x, W), normal({5, 3}, 6));
  };
  run();
  const Tensor<double> once = W.grad().clone();
  run();
  for (std::int64_t i = 0; i < once.size(); i++) CHECK(W.grad()[i] == 2 * once[i]);
  W.zero_grad();
  CHECK_FALSE(W.grad());
  run();
  CHECK(same_bits(W.grad(), once));
}

TEST_CASE("a branch that nothing depends on is passed over", "[autograd]") {
  const Variable<double> x(normal({4, 6}), true);
  const auto W = trained({6, 6}, 3), unused = trained({6, 6}, 4);
  Tape tape;
  linear(x, unused);
  const Variable<double> y = linear(x, W);
  tape.backward(y, normal({4, 6}));
  CHECK(tape.nodes() == 0);
  CHECK(W.grad());
  CHECK_FALSE(unused.grad());
}

TEST_CASE("backward says what it cannot do", "[autograd]") {
  const Variable<double> data(normal({2, 3})), x(normal({2, 3}), true);
  Tape tape;
  CHECK_THROWS_WITH(tape.backward(scale(data, 2.0), normal({2, 3})),
                    "[backward] the output depends on nothing that needs a gradient, or was computed without a Tape");
  CHECK_THROWS_WITH(tape.backward(scale(x, 2.0)), "[backward] the loss has the shape (2, 3), a scalar is wanted");
  CHECK_THROWS_WITH(tape.backward(scale(x, 2.0), normal({3, 2})), "[backward] a gradient of shape (3, 2) for an output of shape (2, 3)");
}

TEST_CASE("an exception in backward leaves the tape in order", "[autograd]") {
  const Variable<double> x(normal({2, 3}), true);
  const std::int64_t before = memory::statistics().in_use;
  {
    Tape tape;
    const Variable<double> y = scale(x, 2.0);
    const Variable<double> z = recorded(normal({2, 3}), true, [dy = y.gradient()](Tensor<double>) { throw std::runtime_error("in a node"); });
    CHECK_THROWS_WITH(tape.backward(z, normal({2, 3})), "in a node");
    CHECK(Tape::current() == &tape);
    CHECK(tape.nodes() == 1);
  }
  CHECK(memory::statistics().in_use == before);
}

TEST_CASE("what a node computes is not recorded", "[autograd]") {
  const Variable<double> x(normal({2, 3}), true);
  Tape tape;
  bool recorded_inside = true;
  const Variable<double> y = recorded(normal({2, 3}), true, [&](Tensor<double>) { recorded_inside = scale(x, 2.0).needs_grad(); });
  tape.backward(y, normal({2, 3}));
  CHECK_FALSE(recorded_inside);
}

TEST_CASE("a gradient is empty, then written, then added to", "[autograd]") {
  const auto g = Gradient<double>::make({2, 2});
  CHECK(g);
  CHECK(g.empty());
  CHECK_FALSE(g.value());
  const auto first = g.sink();
  CHECK_FALSE(first.accumulate);
  for (std::int64_t i = 0; i < 4; i++) first.view.data[i] = double(i);
  const auto second = g.sink();
  CHECK(second.accumulate);
  CHECK(second.view.data == first.view.data);
  CHECK(g.is(Gradient<double>(g)));
  CHECK_FALSE(g.is(Gradient<double>::make({2, 2})));
  CHECK(g.take().sole_holder());
  CHECK(g.empty());
  CHECK(numbers(Tensor<double>::zeros({2, 2})) == [&] {
    g.sum_or_zeros();
    return numbers(g.take());
  }());

  const Gradient<double> nobody;
  CHECK_FALSE(nobody);
  CHECK_FALSE(nobody.sink());
  CHECK_FALSE(nobody.is(nobody));
  nobody.add(normal({2, 2}));
  CHECK_FALSE(nobody.value());
}

TEST_CASE("a contribution that others hold is copied before it is added to", "[autograd]") {
  const Tensor<double> shared = normal({3, 2});
  const std::vector<double> before = numbers(shared);
  for (const bool by_sink : {false, true}) {
    const auto g = Gradient<double>::make({3, 2});
    g.add(shared);
    CHECK(g.value().data() == shared.data());  // the first is taken over as it is
    if (by_sink)
      g.sink().view.data[0] += 1;
    else
      g.add(normal({3, 2}, 2));
    CHECK(numbers(shared) == before);
    CHECK(g.value().data() != shared.data());
  }
  const auto g = Gradient<double>::make({3, 2});
  g.add(shared);
  g.sum_or_zeros().data[1] = 5;
  CHECK(numbers(shared) == before);

  const auto own = Gradient<double>::make({3, 2});
  own.add(shared.clone());
  const double* memory = own.value().data();
  own.add(shared);
  CHECK(own.value().data() == memory);  // nobody else holds it: no copy
  for (std::int64_t i = 0; i < 6; i++) CHECK(own.value()[i] == 2 * shared[i]);
}
