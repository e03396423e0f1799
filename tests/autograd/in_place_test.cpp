// SPDX-License-Identifier: Apache-2.0
// The rule for writing in place: only as the sole holder. What somebody else holds stays as it was; what nobody needs may be overwritten
// by anything without a gradient noticing.
#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <vector>

#include "peft/autograd/autograd.hpp"
#include "support/gradients.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

struct InPlace {
  const char* what;
  std::function<Variable<double>(Variable<double>)> f;
  bool while_recording;  // also where backward will need something
};

std::vector<InPlace> functions() {
  const auto positions = std::make_shared<const Ids>(Ids{0, 3, 1, 2, 5});
  RotaryTable<double> table{Tensor<double>({8, 3}), Tensor<double>({8, 3}), 6, false};
  ops::rope_table<double>(table.cos.view(), table.sin.view(), std::vector<double>{1.0, 0.5, 0.1});
  const Dropping drop{{77, 0.4}, std::make_shared<const RowKeys>(RowKeys{5, 1, 8, 11, 2})};
  const Variable<double> other(normal({5, 6}, 8));
  const auto A = frozen({2, 6}, 3), B = frozen({6, 2}, 4);
  return {{"add", [=](Variable<double> x) { return add(std::move(x), other); }, true},
          {"dropout", [=](Variable<double> x) { return dropout(std::move(x), drop); }, true},
          {"low_rank_update", [=](Variable<double> x) { return low_rank_update(std::move(x), other, A, B, 0.5, drop); }, true},
          {"rope", [=](Variable<double> x) { return rope(std::move(x), positions, table); }, true},
          {"activation", [=](Variable<double> x) { return activation(std::move(x), Activation::silu); }, false},
          {"gated", [=](Variable<double> x) { return gated(std::move(x), other, Activation::silu); }, false}};
}

}  // namespace

TEST_CASE("a sole holder's buffer becomes the result", "[autograd]") {
  for (const auto& [what, f, while_recording] : functions()) {
    CAPTURE(what);
    const Tensor<double> kept = normal({5, 6});
    const std::vector<double> want = numbers(f(kept).value());
    Variable<double> x(kept.clone());
    const double* memory = x.value().data();
    const Variable<double> y = f(std::move(x));
    CHECK(y.value().data() == memory);
    CHECK(numbers(y.value()) == want);
    if (!while_recording) continue;
    Tape tape;
    Variable<double> recorded_x(kept.clone(), true);
    memory = recorded_x.value().data();
    CHECK(f(std::move(recorded_x)).value().data() == memory);
  }
}

TEST_CASE("what somebody else holds stays as it was", "[autograd]") {
  for (const auto& [what, f, while_recording] : functions()) {
    CAPTURE(what);
    const Tensor<double> kept = normal({5, 6});
    const std::vector<double> before = numbers(kept);
    const Variable<double> y = f(Variable<double>(kept));
    CHECK(numbers(kept) == before);
    CHECK(y.value().data() != kept.data());

    // held as a view of some of its columns only
    const Tensor<double> wide = normal({5, 9});
    const Tensor<double> part = wide.columns(0, 3);
    const std::vector<double> part_before = numbers(part);
    f(Variable<double>(wide.columns(3, 9)));
    CHECK(numbers(part) == part_before);

    // memory of a file
    const std::vector<double> file = before;
    f(Variable<double>(Tensor<double>::borrow(const_cast<double*>(file.data()), {5, 6})));
    CHECK(file == before);

    // saved by an earlier function for its backward
    Tape tape;
    Variable<double> leaf(kept, true);
    Variable<double> saved = scale(leaf, 1.0);
    const Tensor<double> squares = multiply(saved, saved).value();  // keeps `saved`
    const Variable<double> z = multiply(saved, saved);
    f(std::move(saved));
    Tensor<double> ones({5, 6}, 1.0);
    tape.backward(z, ones);
    for (std::int64_t i = 0; i < 30; i++) REQUIRE(leaf.grad()[i] == 2 * kept[i]);
    CHECK(squares[0] == kept[0] * kept[0]);
  }
}

TEST_CASE("a result may be overwritten once its reader has it: no gradient notices", "[autograd]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& [what, f, while_recording] : functions()) {
    if (!while_recording) continue;
    CAPTURE(what);
    const auto gradient = [&, &run = f](bool poison) {
      Tape tape;
      const Variable<double> leaf(normal({5, 6}), true);
      Variable<double> inner = scale(leaf, 1.0);
      const Tensor<double> view = inner.value();
      inner = run(std::move(inner));  // `view` holds it, so this works on a copy
      const Variable<double> y = scale(inner, 3.0);
      if (poison) view.fill(nan), inner.value().fill(nan), y.value().fill(nan);  // none of these is needed again
      tape.backward(y, normal({5, 6}, 5));
      return numbers(leaf.grad());
    };
    CHECK(gradient(true) == gradient(false));
  }
}

TEST_CASE("a frozen linear needs neither x nor y again", "[autograd]") {
  const auto W = frozen({4, 6}, 3), b = trained({4}, 4);
  const auto gradients = [&](bool poison) {
    b.zero_grad();
    Tape tape;
    const Variable<double> x(normal({5, 6}), true);
    const Variable<double> y = linear(x, W, b);
    if (poison) x.value().fill(NAN), y.value().fill(NAN);
    tape.backward(y, normal({5, 4}, 5));
    auto all = numbers(x.grad());
    for (double db : numbers(b.grad())) all.push_back(db);
    return all;
  };
  CHECK(gradients(true) == gradients(false));
}

TEST_CASE("an update in place is seen by no gradient of the same buffer's readers", "[autograd][gradcheck]") {
  // h feeds a branch that keeps it and is then joined in place with the branch's result: a residual stream, three times over.
  const auto W = trained({6, 6}, 3), w = trained({6}, 4), A = trained({2, 6}, 5), B = trained({6, 2}, 6);
  const auto f = [&](const Variables& v) {
    Variable<double> h = scale(v[0], 1.0);
    for (int i = 0; i < 3; i++) {
      const Variable<double> n = rms_norm(h, w, 1e-5);
      Variable<double> y = gated(linear(n, W), low_rank_update(linear(n, W), n, A, B, 0.5), Activation::silu);
      h = add(std::move(y), h);
    }
    return h;
  };
  CHECK(gradcheck(f, {normal({4, 6})}, {W, w, A, B}));
}

TEST_CASE("what a norm or an activation makes is not kept for backward, but made again", "[autograd]") {
  const Parameter<double> A(normal({2, 6}, 1), true), B(normal({5, 2}, 2), true), W(normal({5, 6}, 3), true), scales(normal({6}, 4));
  const auto held_after = [&](auto make) {
    Tape tape;
    const Variable<double> x(normal({4, 6}), true), z(normal({4, 6}, 5), true);
    Variable<double> made = make(x, z);
    const Tensor<double> watched = made.value();
    const Variable<double> update = low_rank_update(linear(made, W), made, A, B, 0.5);
    made = {};
    const bool alone = watched.sole_holder();  // neither the update nor the product has it
    tape.backward(update, normal({4, 5}, 6));
    return !alone;
  };
  CHECK_FALSE(held_after([&](const auto& x, const auto&) { return rms_norm(x, scales, 1e-5); }));
  CHECK_FALSE(held_after([&](const auto& x, const auto&) { return layer_norm(x, scales, Parameter<double>(), 1e-5); }));
  CHECK_FALSE(held_after([&](const auto& x, const auto&) { return activation(x, Activation::gelu); }));
  CHECK_FALSE(held_after([&](const auto& x, const auto& z) { return gated(x, z, Activation::silu); }));
  CHECK(held_after([&](const auto& x, const auto& z) { return add(x, z); }));
  for (const auto& p : {A, B, W}) p.gradient().clear();

  CHECK(gradcheck([&](const Variables& v) { return low_rank_update(linear(rms_norm(v[0], scales, 1e-5), W), rms_norm(v[0], scales, 1e-5), A, B, 0.5); },
                  {normal({4, 6})}, {A, B, W}));
  CHECK(gradcheck([&](const Variables& v) { return linear(gated(v[0], v[1], Activation::silu), W); }, {normal({4, 6}), normal({4, 6}, 5)}, {W}));
}

TEST_CASE("gated forms its gradients where its inputs were, if nobody else reads these", "[autograd]") {
  Tape tape;
  const Variable<double> a(normal({5, 6}), true), b(normal({5, 6}, 2), true);
  Variable<double> gate = scale(a, 1.0), up = scale(b, 1.0);
  const double* memory = gate.value().data();
  const Tensor<double> kept_up = up.value();
  const std::vector<double> up_before = numbers(kept_up);
  const auto gate_gradient = gate.gradient();
  Gradient<double> seen_gate;
  const Variable<double> y = gated(std::move(gate), std::move(up), Activation::silu);
  tape.backward(y, normal({5, 6}, 3));
  CHECK(a.grad().data() == memory);  // handed down: through gated in place, through scale in place
  CHECK(numbers(kept_up) == up_before);
  CHECK(gate_gradient.empty());
}

TEST_CASE("one gradient handed to two readers is changed by neither", "[autograd]") {
  // add gives the same tensor to both sides; one side turns it, the other scales it.
  const auto positions = std::make_shared<const Ids>(Ids{0, 3, 1, 2, 5});
  RotaryTable<double> table{Tensor<double>({8, 3}), Tensor<double>({8, 3}), 6, false};
  ops::rope_table<double>(table.cos.view(), table.sin.view(), std::vector<double>{1.0, 0.5, 0.1});
  const Dropping drop{{77, 0.4}, std::make_shared<const RowKeys>(RowKeys{5, 1, 8, 11, 2})};
  CHECK(gradcheck([&](const Variables& v) { return add(rope(v[0], positions, table), scale(v[1], 2.0)); }, {normal({5, 6}), normal({5, 6}, 2)}));
  CHECK(gradcheck([&](const Variables& v) { return add(scale(v[1], 2.0), rope(v[0], positions, table)); }, {normal({5, 6}), normal({5, 6}, 2)}));
  CHECK(gradcheck([&](const Variables& v) { return add(dropout(v[0], drop), v[1]); }, {normal({5, 6}), normal({5, 6}, 2)}));
  CHECK(gradcheck([&](const Variables& v) { return add(add(v[0], v[1]), add(v[1], v[0])); }, {normal({5, 6}), normal({5, 6}, 2)}));

  // and the caller's own gradient stays his
  const Tensor<double> seed = normal({5, 6}, 9);
  const std::vector<double> before = numbers(seed);
  Tape tape;
  const Variable<double> x(normal({5, 6}), true);
  tape.backward(scale(rope(x, positions, table), 2.0), seed);
  CHECK(numbers(seed) == before);
}
