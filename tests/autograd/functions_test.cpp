// SPDX-License-Identifier: Apache-2.0
// Every differentiable function against central differences, in double, to 1e-6.
#include <catch2/catch.hpp>
#include <vector>

#include "peft/autograd/autograd.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
// A number of its own that nobody else holds, so that a function that can work in place does.
Variable<double> own(const Variable<double>& x) { return scale(x, 1.0); }
}  // namespace

TEST_CASE("linear gradient", "[autograd][gradcheck]") {
  const auto W = trained({3, 4}, 2), b = trained({3}, 3);
  CHECK(gradcheck([&](const Variables& v) { return linear(v[0], W, b); }, {normal({5, 4})}, {W, b}));
  CHECK(gradcheck([&](const Variables& v) { return linear(v[0], W); }, {normal({5, 4})}, {W}));
  CHECK(gradcheck([&](const Variables& v) { return linear(v[0], W, b); }, {normal({2, 3, 4})}, {W, b}));  // leading axes are rows

  const auto fixed = frozen({3, 4}, 2);
  CHECK(gradcheck([&](const Variables& v) { return linear(v[0], fixed); }, {normal({5, 4})}));
  CHECK(gradcheck([&](const Variables& v) { return linear(v[0], fixed, b); }, {normal({5, 4})}, {b}));  // the bias alone
  const Variable<double> data(normal({5, 4}));
  CHECK(gradcheck([&](const Variables&) { return linear(data, W, b); }, {}, {W, b}));  // no gradient for x
  CHECK(gradcheck([&](const Variables&) { return linear(data, fixed, b); }, {}, {b}));
}

TEST_CASE("a weight used twice gathers both gradients", "[autograd][gradcheck]") {
  const auto W = trained({4, 4}, 2), b = trained({4}, 3);
  CHECK(gradcheck([&](const Variables& v) { return linear(linear(v[0], W, b), W, b); }, {normal({3, 4})}, {W, b}));
}

TEST_CASE("embedding gradient", "[autograd][gradcheck]") {
  const auto W = trained({5, 3}, 2);
  const std::vector<std::int32_t> ids = {2, 0, 2, 4, 1, 2};
  CHECK(gradcheck([&](const Variables&) { return embedding<double>(ids, W); }, {}, {W}));
  CHECK(gradcheck([&](const Variables&) { return embedding<double>(ids, W, 1.7); }, {}, {W}));

  const auto gradient = [&](std::int32_t padding) {
    W.zero_grad();
    Tape tape;
    const Variable<double> y = embedding<double>(ids, W, 1.0, padding);
    tape.backward(y, normal({6, 3}, 9));
    return W.grad();
  };
  const Tensor<double> all = gradient(-1), without = gradient(2);
  for (std::int64_t row = 0; row < 5; row++)
    for (std::int64_t c = 0; c < 3; c++) CHECK(without(row, c) == (row == 2 ? 0 : all(row, c)));
}

TEST_CASE("rms_norm gradient", "[autograd][gradcheck]") {
  const auto w = trained({7}, 2);
  for (const double offset : {0.0, 1.0}) CHECK(gradcheck([&](const Variables& v) { return rms_norm(v[0], w, 1e-5, offset); }, {normal({5, 7})}, {w}));
  const auto fixed = frozen({7}, 2);
  CHECK(gradcheck([&](const Variables& v) { return rms_norm(v[0], fixed, 1e-5); }, {normal({5, 7})}));
  const Variable<double> data(normal({5, 7}));
  CHECK(gradcheck([&](const Variables&) { return rms_norm(data, w, 1e-5, 1.0); }, {}, {w}));
}

TEST_CASE("layer_norm gradient", "[autograd][gradcheck]") {
  const auto w = trained({7}, 2), b = trained({7}, 3);
  CHECK(gradcheck([&](const Variables& v) { return layer_norm(v[0], w, b, 1e-5); }, {normal({5, 7})}, {w, b}));
  CHECK(gradcheck([&](const Variables& v) { return layer_norm(v[0], w, {}, 1e-5); }, {normal({5, 7})}, {w}));
  const auto fixed = frozen({7}, 2);
  CHECK(gradcheck([&](const Variables& v) { return layer_norm(v[0], fixed, b, 1e-5); }, {normal({5, 7})}, {b}));
  const Variable<double> data(normal({5, 7}));
  CHECK(gradcheck([&](const Variables&) { return layer_norm(data, fixed, b, 1e-5); }, {}, {b}));
}

TEST_CASE("activation gradients", "[autograd][gradcheck]") {
  for (const Activation f : {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu, Activation::tanh}) {
    CAPTURE(int(f));
    CHECK(gradcheck([&](const Variables& v) { return activation(v[0], f); }, {normal({5, 7})}));
    CHECK(gradcheck([&](const Variables& v) { return activation(own(v[0]), f); }, {normal({5, 7})}));
    CHECK(gradcheck([&](const Variables& v) { return gated(v[0], v[1], f); }, {normal({5, 7}), normal({5, 7}, 2)}));
    CHECK(gradcheck([&](const Variables& v) { return gated(own(v[0]), own(v[1]), f); }, {normal({5, 7}), normal({5, 7}, 2)}));
    CHECK(gradcheck([&](const Variables& v) { return gated(v[0], v[0], f); }, {normal({5, 7})}));  // one variable in both places
    const Variable<double> data(normal({5, 7}, 2));
    CHECK(gradcheck([&](const Variables& v) { return gated(own(v[0]), data, f); }, {normal({5, 7})}));
    CHECK(gradcheck([&](const Variables& v) { return gated(data, own(v[0]), f); }, {normal({5, 7})}));
  }
}

TEST_CASE("elementwise gradients", "[autograd][gradcheck]") {
  const Tensor<double> a = normal({4, 3}), b = normal({4, 3}, 2);
  CHECK(gradcheck([](const Variables& v) { return add(v[0], v[1]); }, {a, b}));
  CHECK(gradcheck([](const Variables& v) { return add(own(v[0]), v[1]); }, {a, b}));
  CHECK(gradcheck([](const Variables& v) { return add(v[0], v[0]); }, {a}));
  CHECK(gradcheck([](const Variables& v) { return add(own(v[0]), own(v[0])); }, {a}));
  CHECK(gradcheck([](const Variables& v) { return scale(v[0], -2.5); }, {a}));
  CHECK(gradcheck([](const Variables& v) { return add(scale(v[0], 2.0), scale(v[0], 3.0)); }, {a}));
  CHECK(gradcheck([](const Variables& v) { return multiply(v[0], v[1]); }, {a, b}));
  CHECK(gradcheck([](const Variables& v) { return multiply(v[0], v[0]); }, {a}));
  const Variable<double> data(b);
  CHECK(gradcheck([&](const Variables& v) { return multiply(v[0], data); }, {a}));
  CHECK(gradcheck([&](const Variables& v) { return multiply(data, v[0]); }, {a}));
}

TEST_CASE("gradients of parts and of what is put together", "[autograd][gradcheck]") {
  const Tensor<double> x = normal({6, 5}), y = normal({2, 5}, 2);
  CHECK(gradcheck([](const Variables& v) { return rows(v[0], 1, 4); }, {x}));
  CHECK(gradcheck([](const Variables& v) { return columns(v[0], 2, 5); }, {x}));
  CHECK(gradcheck([](const Variables& v) { return multiply(columns(v[0], 0, 3), columns(v[0], 2, 5)); }, {x}));  // overlapping
  CHECK(gradcheck([](const Variables& v) { return multiply(rows(v[0], 0, 3), rows(v[0], 3, 6)); }, {x}));
  CHECK(gradcheck([](const Variables& v) { return concat_rows<double>(std::vector{v[0], v[1], v[0]}); }, {x, y}));
  CHECK(gradcheck([](const Variables& v) { return concat_rows<double>(std::vector{rows(v[0], 0, 2), rows(v[0], 2, 6)}); }, {x}));  // neighbours again
  CHECK(gradcheck([](const Variables& v) { return concat_rows<double>(std::vector{rows(v[0], 2, 6), rows(v[0], 0, 2)}); }, {x}));
  CHECK(gradcheck([](const Variables& v) { return concat_rows<double>(std::vector{scale(rows(v[0], 0, 2), 2.0), rows(v[0], 2, 6), v[1]}); }, {x, y}));
  CHECK(gradcheck([](const Variables& v) { return concat_rows<double>(std::vector{v[0]}); }, {x}));
  const Variable<double> data(y);
  CHECK(gradcheck([&](const Variables& v) { return concat_rows<double>(std::vector{data, v[0], data}); }, {x}));
}

TEST_CASE("parts that lie side by side are joined without a copy", "[autograd]") {
  const Variable<double> x(normal({6, 5}));
  const auto joined = concat_rows<double>(std::vector{rows(x, 1, 2), rows(x, 2, 5)});
  CHECK(joined.value().data() == x.value().data() + 5);
  CHECK(same_bits(joined.value(), x.value().row_range(1, 5)));
  const auto swapped = concat_rows<double>(std::vector{rows(x, 2, 5), rows(x, 1, 2)});
  CHECK(same_bits(swapped.value().row_range(3, 4), x.value().row_range(1, 2)));
  const auto strided = concat_rows<double>(std::vector{rows(columns(x, 1, 3), 0, 2), rows(columns(x, 1, 3), 2, 6)});
  CHECK(same_bits(strided.value(), x.value().columns(1, 3)));
}

TEST_CASE("rope gradient", "[autograd][gradcheck]") {
  const auto positions = std::make_shared<const Ids>(Ids{0, 3, 1, 7});
  for (const bool interleaved : {false, true})
    for (const std::int64_t rotary : {6, 4}) {  // the whole head, a part of it
      RotaryTable<double> table{Tensor<double>({8, rotary / 2}), Tensor<double>({8, rotary / 2}), 6, interleaved};
      const std::vector<double> frequencies = {1.0, 0.3, 0.05};
      ops::rope_table<double>(table.cos.view(), table.sin.view(), std::span(frequencies).first(std::size_t(rotary / 2)));
      CAPTURE(interleaved, rotary);
      CHECK(gradcheck([&](const Variables& v) { return rope(v[0], positions, table); }, {normal({4, 12})}));
      CHECK(gradcheck([&](const Variables& v) { return rope(own(v[0]), positions, table); }, {normal({4, 12})}));
    }
}

TEST_CASE("dropout and low rank gradients, with the same mask forward and back", "[autograd][gradcheck]") {
  const auto keys = std::make_shared<const RowKeys>(RowKeys{5, 1, 8, 11, 2});
  const Dropping drop{{77, 0.4}, keys};
  const auto A = trained({2, 6}, 3), B = trained({4, 2}, 4);
  CHECK(gradcheck([&](const Variables& v) { return dropout(v[0], drop); }, {normal({5, 6})}));
  CHECK(gradcheck([&](const Variables& v) { return dropout(own(v[0]), drop); }, {normal({5, 6})}));
  CHECK(gradcheck([](const Variables& v) { return dropout(v[0], Dropping{}); }, {normal({5, 6})}));
  for (const Dropping& d : {Dropping{}, drop}) {
    CAPTURE(d.key.p);
    const auto update = [&](const Variable<double>& y, const Variable<double>& x) { return low_rank_update(y, x, A, B, 0.7, d); };
    CHECK(gradcheck([&](const Variables& v) { return update(v[0], v[1]); }, {normal({5, 4}), normal({5, 6}, 2)}, {A, B}));
    CHECK(gradcheck([&](const Variables& v) { return low_rank_update(own(v[0]), v[1], A, B, 0.7, d); }, {normal({5, 4}), normal({5, 6}, 2)}, {A, B}));
    const Variable<double> x(normal({5, 6}, 2)), y(normal({5, 4}));
    CHECK(gradcheck([&](const Variables&) { return update(y, x); }, {}, {A, B}));
    CHECK(gradcheck([&](const Variables& v) { return update(v[0], x); }, {normal({5, 4})}, {A, B}));
    // either factor frozen, and both
    const auto fixed_A = frozen({2, 6}, 3), fixed_B = frozen({4, 2}, 4);
    CHECK(gradcheck([&](const Variables& v) { return low_rank_update(y, v[0], fixed_A, B, 0.7, d); }, {normal({5, 6}, 2)}, {B}));
    CHECK(gradcheck([&](const Variables& v) { return low_rank_update(y, v[0], A, fixed_B, 0.7, d); }, {normal({5, 6}, 2)}, {A}));
    CHECK(gradcheck([&](const Variables& v) { return low_rank_update(y, v[0], fixed_A, fixed_B, 0.7, d); }, {normal({5, 6}, 2)}));
    // q and k: two updates read one x
    const auto q = frozen({4, 6}, 5), k = frozen({4, 6}, 6);
    CHECK(gradcheck([&](const Variables& v) { return multiply(update(linear(v[0], q), v[0]), update(linear(v[0], k), v[0])); }, {normal({5, 6}, 2)}, {A, B}));
  }
}

TEST_CASE("linear_low_rank is linear and low_rank_update in one", "[autograd][gradcheck]") {
  const auto keys = std::make_shared<const RowKeys>(RowKeys{5, 1, 8, 11, 2});
  const auto A = trained({2, 6}, 3), B = trained({20, 2}, 4), W = trained({20, 6}, 5), b = trained({20}, 6);
  const auto fixed_A = frozen({2, 6}, 3), fixed_B = frozen({20, 2}, 4), fixed_W = frozen({20, 6}, 5);
  const Tensor<double> x = normal({5, 6}, 2);
  for (const Dropping& d : {Dropping{}, Dropping{{77, 0.4}, keys}}) {
    CAPTURE(d.key.p);
    CHECK(same_bits(linear_low_rank(Variable<double>(x), W, b, A, B, 0.7, d).value(),
                    low_rank_update(linear(Variable<double>(x), W, b), Variable<double>(x), A, B, 0.7, d).value()));
    CHECK(gradcheck([&](const Variables& v) { return linear_low_rank(v[0], W, b, A, B, 0.7, d); }, {x}, {W, b, A, B}));
    CHECK(gradcheck([&](const Variables& v) { return linear_low_rank(v[0], fixed_W, {}, A, B, 0.7, d); }, {x}, {A, B}));
    CHECK(gradcheck([&](const Variables& v) { return linear_low_rank(v[0], fixed_W, {}, fixed_A, B, 0.7, d); }, {x}, {B}));
    CHECK(gradcheck([&](const Variables& v) { return linear_low_rank(v[0], fixed_W, {}, A, fixed_B, 0.7, d); }, {x}, {A}));
    CHECK(gradcheck([&](const Variables& v) { return linear_low_rank(v[0], fixed_W, {}, fixed_A, fixed_B, 0.7, d); }, {x}));
    CHECK(gradcheck([&](const Variables&) { return linear_low_rank(Variable<double>(x), fixed_W, {}, A, B, 0.7, d); }, {}, {A, B}));
    CHECK(gradcheck([&](const Variables& v) { return multiply(linear_low_rank(v[0], fixed_W, {}, A, B, 0.7, d), linear_low_rank(v[0], W, b, A, B, 0.2, d)); },
                    {x}, {A, B, W}));
  }
  CHECK_THROWS_AS(linear_low_rank(Variable<double>(x), W, b, B, A, 0.7), ShapeError);
}

TEST_CASE("low_rank_update is x Aᵀ Bᵀ, the dropped x first", "[autograd]") {
  const auto keys = std::make_shared<const RowKeys>(RowKeys{5, 1, 8});
  const Dropping drop{{77, 0.4}, keys};
  const auto A = frozen({2, 6}, 3), B = frozen({4, 2}, 4);
  const Variable<double> x(normal({3, 6})), y(normal({3, 4}, 2));
  const Variable<double> dropped = dropout(x, drop);
  CHECK_FALSE(same_bits(dropped.value(), x.value()));
  const Variable<double> by_hand = add(y, scale(linear(linear(dropped, A), B), 0.7));
  CHECK_THAT(array(low_rank_update(y, x, A, B, 0.7, drop).value()), is_near<double>(array(by_hand.value())));
}

TEST_CASE("cross entropy gradients", "[autograd][gradcheck]") {
  const auto W = trained({7, 4}, 2), b = trained({7}, 3), fixed = frozen({7, 4}, 2);
  const std::vector<std::int32_t> labels = {3, -100, 0, 6, -100}, all = {3, 1, 0, 6, 6};
  const Tensor<double> x = normal({5, 4});
  for (const auto& targets : {labels, all}) {
    CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], W, b, targets); }, {x}, {W, b}));
    CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], W, {}, targets); }, {x}, {W}));
    CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], fixed, {}, targets); }, {x}));
    CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], fixed, b, targets); }, {x}, {b}));
    CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], W, b, targets, 11.0); }, {x}, {W, b}));
    const Variable<double> data(x);
    CHECK(gradcheck([&](const Variables&) { return linear_cross_entropy(data, W, b, targets); }, {}, {W, b}));
    CHECK(gradcheck([&](const Variables& v) { return cross_entropy(v[0], targets); }, {normal({5, 7})}));
    CHECK(gradcheck([&](const Variables& v) { return cross_entropy(v[0], targets, 11.0); }, {normal({5, 7})}));
  }
  CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], W, b, labels, 0, 0.2); }, {x}, {W, b}));
  const SoftTargets<double> soft{{3, 1, 0, 6, 1}, {0.5, 0.5, 0.2, 0.7, 1.5}, {0, 2, 2, 4, 5, 5}};  // rows 1 and 4 have none
  CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], W, b, soft); }, {x}, {W, b}));
  for (const double cap : {0.6, 5.0}) {  // logits around 2: far in the bend, and in its straight part
    CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], W, b, labels, 0, 0.0, cap); }, {x}, {W, b}));
    CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], W, b, labels, 0, 0.2, cap); }, {x}, {W, b}));
    CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], fixed, {}, labels, 3.0, 0.2, cap); }, {x}));
    CHECK(gradcheck([&](const Variables& v) { return linear_cross_entropy(v[0], W, b, soft, 0, cap); }, {x}, {W, b}));
    CHECK(gradcheck([&](const Variables& v) { return softcap(v[0], cap); }, {x}));
  }
  // The gradient of a loss that is scaled afterwards
  CHECK(gradcheck([&](const Variables& v) { return scale(linear_cross_entropy(v[0], W, b, labels), -3.0); }, {x}, {W, b}));
}

TEST_CASE("the fused loss is the loss of the logits", "[autograd]") {
  const auto W = frozen({700, 40}, 2), b = frozen({700}, 3);  // several tiles of the vocabulary
  std::vector<std::int32_t> labels;
  for (int i = 0; i < 90; i++) labels.push_back(i % 4 == 1 ? -100 : i * 7);
  const Variable<double> x(normal({90, 40}));
  for (const double denominator : {0.0, 13.0}) {
    const double fused = linear_cross_entropy(x, W, b, labels, denominator).value()[0], plain = cross_entropy(linear(x, W, b), labels, denominator).value()[0];
    CHECK(fused == Approx(plain).epsilon(1e-12));
    CHECK(linear_cross_entropy(x, W, b, labels).value()[0] > 1);
    const double capped = linear_cross_entropy(x, W, b, labels, denominator, 0, 3.0).value()[0];
    CHECK(capped == Approx(cross_entropy(softcap(linear(x, W, b), 3.0), labels, denominator).value()[0]).epsilon(1e-12));
    CHECK_FALSE(capped == Approx(plain).epsilon(1e-2));
  }
}

TEST_CASE("without a labelled row the loss is zero and asks for nothing", "[autograd]") {
  const auto W = trained({7, 4}, 2);
  const std::vector<std::int32_t> labels = {-100, -100};
  Tape tape;
  const Variable<double> x(normal({2, 4}), true);
  const auto loss = linear_cross_entropy(x, W, {}, labels);
  CHECK(loss.value()[0] == 0);
  CHECK(cross_entropy(linear(x, W), labels).value()[0] == 0);
  CHECK_FALSE(loss.needs_grad());
}

TEST_CASE("shapes and labels that do not fit are refused with their numbers", "[autograd]") {
  const Variable<double> x(normal({5, 4}));
  const auto W = frozen({3, 6}, 2), w = frozen({6}, 2);
  CHECK_THROWS_WITH(linear(x, W), "[linear] x (5, 4) against a weight (3, 6): in_features differ");
  CHECK_THROWS_WITH(rms_norm(x, w, 1e-5), "[rms_norm] x (5, 4) against a weight (6)");
  CHECK_THROWS_WITH(layer_norm(x, w, {}, 1e-5), "[layer_norm] x (5, 4) against a weight (6)");
  CHECK_THROWS_WITH(add(x, Variable<double>(normal({4, 5}))), "[add] (5, 4) and (4, 5)");
  CHECK_THROWS_AS(multiply(x, Variable<double>(normal({5, 3}))), ShapeError);
  CHECK_THROWS_AS(gated(x, Variable<double>(normal({5, 3})), Activation::silu), ShapeError);
  CHECK_THROWS_AS(concat_rows<double>(std::vector{x, Variable<double>(normal({5, 3}))}), ShapeError);
  CHECK_THROWS_AS(low_rank_update(x, x, frozen({2, 5}, 1), frozen({4, 2}, 1), 1.0), ShapeError);
  CHECK_THROWS_AS(low_rank_update(x, x, frozen({2, 4}, 1), frozen({4, 3}, 1), 1.0), ShapeError);
  CHECK_THROWS_AS(low_rank_update(x, x, frozen({2, 4}, 1), frozen({5, 2}, 1), 1.0), ShapeError);
  const std::vector<std::int32_t> four = {0, 1, 2, 0}, outside = {0, 1, 2, 3, 0}, negative = {0, 1, 2, -1, 0};
  const auto head = frozen({3, 4}, 2);
  CHECK_THROWS_WITH(linear_cross_entropy(x, head, {}, four), "[linear_cross_entropy] 4 labels for 5 rows");
  CHECK_THROWS_WITH(linear_cross_entropy(x, head, {}, outside), "[linear_cross_entropy] label 3 in row 3; allowed are 0 … 2 and -100 (ignored)");
  CHECK_THROWS_AS(linear_cross_entropy(x, head, {}, negative), ShapeError);
  CHECK_THROWS_AS(cross_entropy(x, four), ShapeError);
  CHECK_THROWS_WITH(linear_cross_entropy(x, head, {}, SoftTargets<double>{{0}, {1.0}, {0, 1}}), Catch::Contains("2 offsets of soft targets for 5 rows"));
}
