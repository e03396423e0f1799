// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/linear_cross_entropy.hpp"

#include <catch2/catch.hpp>
#include <vector>
#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>

#include "peft/core/labels.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/quantized.hpp"
#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

using Labels = std::vector<std::int32_t>;

struct Size {
  std::int64_t n, c, v;
};
// One row, one column, one class; more rows and more classes than one tile holds (512, 1024).
const std::vector<Size> sizes = {{1, 1, 1}, {1, 5, 2}, {5, 1, 7}, {7, 13, 33}, {3, 40, 1023}, {2, 8, 1025}, {33, 20, 2300}, {600, 6, 50}};

Array product(const Array& a, const Array& b) {  // A B
  Array c = xt::zeros<double>({a.shape()[0], b.shape()[1]});
  for (std::size_t k = 0; k < b.shape()[0]; k++) c += xt::view(a, xt::all(), xt::range(k, k + 1)) * xt::view(b, xt::range(k, k + 1), xt::all());
  return c;
}
template <class T>
struct Case {
  Tensor<T> x, w, b;
  Labels labels;
  explicit Case(const Size& z, double deviation = 1)
      : x(with_gaps(random_normal<T>({z.n, z.c}, 1, deviation))), w(random_normal<T>({z.v, z.c}, 2)), b(random_normal<T>({z.v}, 3)) {
    Random random(4);
    for (std::int64_t i = 0; i < z.n; i++) labels.push_back(std::int32_t(random.below(std::uint64_t(z.v))));
    labels[0] = std::int32_t(z.v - 1);  // the last class
  }
};
struct Oracle {
  Array loss, lse, dlogits, dx, dw, db;
  Oracle(const Array& x, const Array& w, const Array& b, const Labels& labels) {
    const Array logits = product(x, xt::transpose(w)) + b, top = xt::amax(logits, {1}, xt::keep_dims), e = xt::exp(logits - top),
                sum = xt::sum(e, {1}, xt::keep_dims);
    lse = xt::view(top + xt::log(sum), xt::all(), 0), loss = lse, dlogits = e / sum;
    for (std::size_t i = 0; i < labels.size(); i++) loss(i) -= logits(i, std::size_t(labels[i])), dlogits(i, std::size_t(labels[i])) -= 1;
    dx = product(dlogits, w), dw = product(xt::transpose(dlogits), x), db = xt::sum(dlogits, {0});
  }
};

}  // namespace

TEMPLATE_TEST_CASE("the loss is −log softmax of the label, and its gradients", "[ops]", float, double) {
  using T = TestType;
  for (const Size& z : sizes)
    for (const bool bias : {false, true}) {
      CAPTURE(z.n, z.c, z.v, bias);
      const Case<T> c(z);
      const Oracle expected(array(c.x), array(c.w), bias ? array(c.b) : Array(array(c.b) * 0), c.labels);
      const T* b = bias ? c.b.data() : nullptr;
      const Tensor<T> loss = poisoned<T>({z.n}), lse = poisoned<T>({z.n}), dx = with_gaps(poisoned<T>({z.n, z.c}));
      ops::linear_cross_entropy_forward<T>(loss.data(), lse.data(), dx, c.x, ops::WeightView(c.w.view()), b, c.labels);
      CHECK_THAT(array(loss), is_near<T>(expected.loss, 4, 1));
      CHECK_THAT(array(lse), is_near<T>(expected.lse, 4, 1));
      CHECK_THAT(array(dx), is_near<T>(expected.dx, 4, 1));

      // Without dx the loss is the same bits.
      const Tensor<T> loss_alone = poisoned<T>({z.n}), lse_alone = poisoned<T>({z.n});
      ops::linear_cross_entropy_forward<T>(loss_alone.data(), lse_alone.data(), View<T>(), c.x, ops::WeightView(c.w.view()), b, c.labels);
      CHECK(same_bits(loss_alone, loss));
      CHECK(same_bits(lse_alone, lse));

      for (const bool accumulate : {false, true}) {
        const auto made = [&](const Shape& shape) { return accumulate ? random_normal<T>(shape, 9) : poisoned<T>(shape); };
        const Tensor<T> dw = with_gaps(made({z.v, z.c})), db = made({z.v});
        const Array dw_expected = -0.3 * expected.dw + (accumulate ? array(dw) : Array(0 * expected.dw)),
                    db_expected = -0.3 * expected.db + (accumulate ? array(db) : Array(0 * expected.db));
        const Tensor<T> dw_alone = with_gaps(made({z.v, z.c})), db_alone = made({z.v});
        const auto backward = [&](ops::GradSink<T> w_sink, ops::GradSink<T> b_sink) {
          ops::linear_cross_entropy_backward_weight<T>(w_sink, b_sink, T(-0.3), c.x, ops::WeightView(c.w.view()), b, c.labels, lse.data());
        };
        backward({dw, accumulate}, {db, accumulate});
        CHECK_THAT(array(dw), is_near<T>(dw_expected, 4, 1));
        CHECK_THAT(array(db), is_near<T>(db_expected, 4, 1));
        backward({dw_alone, accumulate}, {});
        backward({}, {db_alone, accumulate});
        CHECK(same_bits(dw_alone, dw));
        CHECK(same_bits(db_alone, db));
      }
    }
}

TEMPLATE_TEST_CASE("targets may be several classes with weights, and smoothed", "[ops]", float, double) {
  using T = TestType;
  for (const Size& z : {Size{1, 5, 2}, Size{7, 13, 33}, Size{5, 8, 2300}, Size{530, 6, 50}, Size{3, 700, 1}})
    for (const auto& [smoothing, cap] : {std::pair(0.0, 0.0), {0.1, 0.0}, {1.0, 0.0}, {0.0, 2.5}, {0.1, 2.5}}) {
      CAPTURE(z.n, z.c, z.v, smoothing, cap);
      const Case<T> c(z);
      // Row i has i % 4 classes (one may come twice), so that some have none; every 16th has more than the tile's memory has rows for.
      Labels classes;
      std::vector<T> weights;
      std::vector<std::int64_t> offsets = {0};
      Random random(8);
      Array q = xt::zeros<double>({std::size_t(z.n), std::size_t(z.v)});
      for (std::int64_t i = 0; i < z.n; i++) {
        for (std::int64_t k = 0, n = i % 16 == 15 ? 3 * z.v : i % 4; k < n; k++) {
          classes.push_back(std::int32_t(random.below(std::uint64_t(z.v)))), weights.push_back(T(random.uniform(0.1, 1)));
          q(std::size_t(i), std::size_t(classes.back())) += double(weights.back());
        }
        offsets.push_back(std::int64_t(classes.size()));
      }
      const Array mass = xt::sum(q, {1}, xt::keep_dims);
      q = (1 - smoothing) * q + smoothing / double(z.v) * mass;
      const Array x = array(c.x), w = array(c.w), z0 = product(x, xt::transpose(w)) + array(c.b), bent = cap > 0 ? Array(xt::tanh(z0 / cap)) : Array(0 * z0),
                  logits = cap > 0 ? Array(cap * bent) : z0, top = xt::amax(logits, {1}, xt::keep_dims), e = xt::exp(logits - top),
                  sum = xt::sum(e, {1}, xt::keep_dims), log_p = logits - top - xt::log(sum), dlogits = (mass * e / sum - q) * (1 - bent * bent),
                  loss_expected = -xt::sum(q * log_p, {1});
      const ops::ClassTargets<T> targets(classes, offsets, weights, smoothing);
      const Tensor<T> loss = poisoned<T>({z.n}), lse = poisoned<T>({z.n}), dx = with_gaps(poisoned<T>({z.n, z.c})), dw = poisoned<T>({z.v, z.c}),
                      db = poisoned<T>({z.v});
      ops::linear_cross_entropy_forward<T>(loss.data(), lse.data(), dx, c.x, ops::WeightView(c.w.view()), c.b.data(), targets, cap);
      ops::linear_cross_entropy_backward_weight<T>({dw}, {db}, T(0.5), c.x, ops::WeightView(c.w.view()), c.b.data(), targets, lse.data(), cap);
      CHECK_THAT(array(loss), is_near<T>(loss_expected, 8, 1));
      CHECK_THAT(array(dx), is_near<T>(product(dlogits, w), 8, 1));
      CHECK_THAT(array(dw), is_near<T>(0.5 * product(xt::transpose(dlogits), x), 8, 1));
      CHECK_THAT(array(db), is_near<T>(0.5 * xt::sum(dlogits, {0}), 8, 1));
    }
}

TEST_CASE("a capped head with products of bfloat16 is that head with rounded factors", "[ops]") {
  const Case<float> c({40, 32, 1100});
  const auto run = [&](DType products) {
    const ops::UseComputeDtype guard(products);
    const Tensor<float> loss({40}), lse({40}), dx({40, 32}), dw({1100, 32});
    const ops::ClassTargets<float> targets(c.labels, 0.1);
    ops::linear_cross_entropy_forward<float>(loss.data(), lse.data(), dx, c.x, ops::WeightView(c.w.view()), c.b.data(), targets, 4.0);
    ops::linear_cross_entropy_backward_weight<float>({dw}, {}, 1.f, c.x, ops::WeightView(c.w.view()), c.b.data(), targets, lse.data(), 4.0);
    return std::vector{loss, lse, dx, dw};
  };
  const auto exact = run(DType::f32), rounded = run(DType::bf16);
  for (std::size_t i = 0; i < exact.size(); i++) {  // a factor has 8 bits, logits of size 6 are off by a hundredth
    CHECK_THAT(array(rounded[i]), IsNear(array(exact[i]), 0.05));
    CHECK(same_bits(rounded[i], exact[i]) == !ops::has_bf16_products());
  }
}

TEMPLATE_TEST_CASE("one class of weight 1 a row is a label, to the bit", "[ops]", float, double) {
  using T = TestType;
  const Size z{33, 20, 2300};
  const Case<T> c(z);
  std::vector<std::int64_t> offsets;
  for (std::int64_t i = 0; i <= z.n; i++) offsets.push_back(i);
  const std::vector<T> ones(std::size_t(z.n), T(1));
  std::vector<Tensor<T>> found;
  for (const ops::ClassTargets<T>& targets : {ops::ClassTargets<T>(c.labels), ops::ClassTargets<T>(c.labels, offsets, ones)}) {
    const Tensor<T> loss({z.n}), lse({z.n}), dx({z.n, z.c});
    ops::linear_cross_entropy_forward<T>(loss.data(), lse.data(), dx, c.x, ops::WeightView(c.w.view()), c.b.data(), targets);
    found.push_back(loss), found.push_back(dx);
  }
  CHECK(same_bits(found[0], found[2]));
  CHECK(same_bits(found[1], found[3]));
}

TEST_CASE("soft targets that do not fit are refused", "[ops]") {
  const Case<double> c({2, 5, 7});
  const Tensor<double> loss({2}), lse({2});
  const auto run = [&](const ops::ClassTargets<double>& targets) {
    ops::linear_cross_entropy_forward<double>(loss.data(), lse.data(), View<double>(), c.x, ops::WeightView(c.w.view()), nullptr, targets);
  };
  const Labels classes = {0, 1, 2};
  const std::vector<double> weights = {1, 1, 1}, few = {1};
  const std::vector<std::int64_t> good = {0, 1, 3}, falling = {0, 2, 1}, beyond = {0, 1, 4}, one = {0, 3};
  run({classes, good, weights});
  CHECK_THROWS_WITH(run({classes, one, weights}), Catch::Contains("1 rows of targets"));
  CHECK_THROWS_WITH(run({classes, good, few}), Catch::Contains("1 weights for 3 classes"));
  CHECK_THROWS_WITH(run({classes, falling, weights}), Catch::Contains("offset 2 is 1"));
  CHECK_THROWS_WITH(run({classes, beyond, weights}), Catch::Contains("offset 2 is 4"));
  CHECK_THROWS_WITH(run({classes, good, weights, 1.5}), Catch::Contains("label_smoothing is 1.5"));
}

TEST_CASE("the gradients of the loss are slopes", "[ops][gradcheck]") {
  const Case<double> c({6, 5, 9});
  const Tensor<double> loss({6}), lse({6}), dx({6, 5}), dw({9, 5}), db({9});
  const auto f = [&] {
    ops::linear_cross_entropy_forward<double>(loss.data(), lse.data(), View<double>(), c.x, ops::WeightView(c.w.view()), c.b.data(), c.labels);
    double sum = 0;
    for (double value : loss.span()) sum += value;
    return sum;
  };
  ops::linear_cross_entropy_forward<double>(loss.data(), lse.data(), dx, c.x, ops::WeightView(c.w.view()), c.b.data(), c.labels);
  ops::linear_cross_entropy_backward_weight<double>({dw}, {db}, 1.0, c.x, ops::WeightView(c.w.view()), c.b.data(), c.labels, lse.data());
  CHECK_THAT(array(dx), IsNear(differences(c.x, f), 1e-8));
  CHECK_THAT(array(dw), IsNear(differences(c.w, f), 1e-8));
  CHECK_THAT(array(db), IsNear(differences(c.b, f), 1e-8));
}

TEMPLATE_TEST_CASE("large logits neither overflow nor vanish", "[ops]", float, double) {
  using T = TestType;
  const Size z{9, 20, 2300};
  const Case<T> c(z, 300);  // logits of ± 4000: e^4000 is no number, and the running maximum jumps between tiles
  const Oracle expected(array(c.x), array(c.w), array(c.b), c.labels);
  const Tensor<T> loss({z.n}), lse({z.n}), dx({z.n, z.c});
  ops::linear_cross_entropy_forward<T>(loss.data(), lse.data(), dx, c.x, ops::WeightView(c.w.view()), c.b.data(), c.labels);
  CHECK_THAT(array(loss), is_near<T>(expected.loss, 2));
  CHECK_THAT(array(lse), is_near<T>(expected.lse, 2));
  // A logit's rounding, 4000 · 2⁻²⁴ and some, passes through the exponential.
  CHECK_THAT(array(dx), is_near<T>(expected.dx, 1000));
}

TEMPLATE_TEST_CASE("a head of every storage type is the head with widened weights", "[ops]", float, double) {
  using T = TestType;
  for (const DType type : {DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1}) {
    CAPTURE(name(type));
    const Size z{11, 64, 1100};
    const Case<T> c(z);
    std::vector<std::byte> bytes(std::size_t(bytes_of(type, z.v * z.c)));
    const Tensor<float> rows = cast<float>(c.w);
    for (std::int64_t r = 0; r < z.v; r++) ops::quantize(bytes.data() + bytes_of(type, r * z.c), type, rows.view().row(r), z.c);
    const ops::WeightView stored(bytes.data(), type, z.v, z.c);
    const Tensor<T> wide({z.v, z.c});
    ops::widen<T>(wide.view(), stored);
    const auto run = [&](const ops::WeightView& w) {
      const Tensor<T> loss({z.n}), lse({z.n}), dx({z.n, z.c}), dw({z.v, z.c});
      ops::linear_cross_entropy_forward<T>(loss.data(), lse.data(), dx, c.x, w, c.b.data(), c.labels);
      ops::linear_cross_entropy_backward_weight<T>({dw}, {}, T(1), c.x, w, c.b.data(), c.labels, lse.data());
      return std::vector{loss, lse, dx, dw};
    };
    const auto found = run(stored), expected = run(ops::WeightView(wide.view()));
    for (std::size_t i = 0; i < 4; i++) CHECK_THAT(array(found[i]), is_near<T>(array(expected[i]), 4, 1));
  }
}

TEMPLATE_TEST_CASE("the loss of a row has the same bits in any batch, everything on any number of threads", "[ops]", float, double) {
  using T = TestType;
  const Size z{530, 24, 1500};
  const Case<T> c(z);
  const ops::WeightView w(c.w.view());
  std::vector<Tensor<T>> first;
  for (const int threads : {1, 2, 4}) {
    const Threads guard(threads);
    const Tensor<T> loss({z.n}), lse({z.n}), dx({z.n, z.c}), dw({z.v, z.c}), db({z.v});
    ops::linear_cross_entropy_forward<T>(loss.data(), lse.data(), dx, c.x, w, c.b.data(), c.labels);
    ops::linear_cross_entropy_backward_weight<T>({dw}, {db}, T(1), c.x, w, c.b.data(), c.labels, lse.data());
    const std::vector<Tensor<T>> all = {loss, lse, dx, dw, db};
    if (first.empty()) first = all;
    for (std::size_t i = 0; i < all.size(); i++) CHECK(same_product(all[i], first[i]));
  }
  for (const std::int64_t rows : {1, 6, 529}) {
    const Tensor<T> loss({z.n}), lse({z.n}), dx({z.n, z.c});
    for (std::int64_t i = 0; i < std::min<std::int64_t>(z.n, 12 * rows); i += rows) {
      const std::int64_t end = std::min(z.n, i + rows);
      const auto labels = std::span(c.labels).subspan(std::size_t(i), std::size_t(end - i));
      ops::linear_cross_entropy_forward<T>(loss.data() + i, lse.data() + i, dx.view().row_range(i, end), c.x.view().row_range(i, end), w, c.b.data(), labels);
      const auto part = [&](const Tensor<T>& t) { return View<const T>(t.data() + i, 1, end - i, end - i); };
      CHECK(same_product(part(loss), part(first[0])));
      CHECK(same_product(part(lse), part(first[1])));
      CHECK(same_product(dx.row_range(i, end), first[2].row_range(i, end)));
    }
  }
}

TEST_CASE("no rows: nothing to add, and a first sink is zero", "[ops]") {
  const Case<double> c({1, 5, 1300});
  const Tensor<double> none({0, 5}), dw = poisoned<double>({1300, 5}), db = poisoned<double>({1300});
  ops::linear_cross_entropy_forward<double>(nullptr, nullptr, none, none, ops::WeightView(c.w.view()), nullptr, {});
  ops::linear_cross_entropy_backward_weight<double>({dw}, {db}, 1.0, none, ops::WeightView(c.w.view()), nullptr, {}, nullptr);
  CHECK_THAT(array(dw), IsNear(0 * array(c.w), 0));
  CHECK_THAT(array(db), IsNear(0 * array(c.b), 0));
}

TEST_CASE("a loss of what does not fit is refused", "[ops]") {
  const Case<double> c({3, 5, 7});
  const Tensor<double> loss({3}), lse({3}), narrow({3, 4});
  const auto run = [&](const Tensor<double>& x, const Labels& labels) {
    ops::linear_cross_entropy_forward<double>(loss.data(), lse.data(), View<double>(), x, ops::WeightView(c.w.view()), nullptr, labels);
  };
  CHECK_THROWS_WITH(run(narrow, {0, 1, 2}), "[linear_cross_entropy] x (3, 4), a weight (7, 5), 3 labels");
  CHECK_THROWS_WITH(run(c.x, {0, 1}), "[linear_cross_entropy] x (3, 5), a weight (7, 5), 2 labels");
  CHECK_THROWS_WITH(run(c.x, {0, 1, 7}), "[linear_cross_entropy] label 7; allowed are 0 … 6");
  CHECK_THROWS_WITH(run(c.x, {0, 1, ignore_index}), "[linear_cross_entropy] label -100; allowed are 0 … 6");
}
