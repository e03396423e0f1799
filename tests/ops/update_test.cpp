// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/update.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>
#include <xtensor/xmath.hpp>

#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
struct Size {
  std::int64_t rows, cols;
};
const std::vector<Size> sizes = {{1, 1}, {5, 7}, {1, 16}, {3, 17}, {33, 64}, {2, 1000}, {700, 1}};
}  // namespace

TEMPLATE_TEST_CASE("one AdamW update", "[ops]", float, double) {
  using T = TestType;
  const ops::AdamwStep step{.decay = 0.99, .beta1 = 0.9, .beta2 = 0.999, .step_size = 0.02, .root_bias2 = 0.3, .eps = 1e-3};
  for (const auto& [rows, cols] : sizes) {
    CAPTURE(rows, cols);
    const Shape shape = {rows, cols};
    const Tensor<T> p = with_gaps(random_normal<T>(shape)), m = random_normal<T>(shape, 2), v = random_normal<T>(shape, 3),
                    g = with_gaps(random_normal<T>(shape, 4), 2);
    for (T& value : v.span()) value = std::abs(value);
    const Array m_new = 0.9 * array(m) + 0.1 * array(g), v_new = 0.999 * array(v) + 0.001 * array(g) * array(g),
                p_new = 0.99 * array(p) - 0.02 * m_new / (xt::sqrt(v_new) / 0.3 + 1e-3);
    ops::adamw_update<T>(p, m, v, g, step);
    CHECK_THAT(array(m), is_near<T>(m_new));
    CHECK_THAT(array(v), is_near<T>(v_new));
    CHECK_THAT(array(p), is_near<T>(p_new));
  }
}

TEST_CASE("many tensors at once get what each gets alone", "[ops]") {
  std::vector<Tensor<float>> alone, together;
  std::vector<ops::AdamwTensor<float>> all;
  std::uint64_t seed = 1;
  for (const Shape& shape : {Shape{1, 3}, Shape{300, 200}, Shape{0, 4}, Shape{8, 64}, Shape{1, 40000}, Shape{64, 8}}) {
    const ops::AdamwStep step{.decay = 0.99, .step_size = 0.01 * double(seed), .root_bias2 = 0.3};
    const Tensor<float> p = random_normal<float>(shape, seed), m(shape, 0.1f), v(shape, 0.2f), g = random_normal<float>(shape, ++seed);
    const Tensor<float> q = p.clone(), mq = m.clone(), vq = v.clone();
    ops::adamw_update<float>(p, m, v, g, step);
    alone.insert(alone.end(), {p, m, v}), together.insert(together.end(), {q, mq, vq});
    all.push_back({q.view(), mq.view(), vq.view(), g.view(), step});
    together.push_back(g), alone.push_back(g);  // keeps it alive
  }
  ops::adamw_update<float>(all);
  for (std::size_t i = 0; i < alone.size(); i++) CHECK(same_bits(alone[i], together[i]));
}

TEST_CASE("1 − β is not rounded away in float", "[ops]") {
  // From v = 0 one update leaves (1 − β₂) g² alone: 1 − float(0.999) would be off by 5e-5.
  const Tensor<float> p({1}, 0.f), m({1}, 0.f), v({1}, 0.f), g({1}, 1.f);
  ops::adamw_update<float>(p, m, v, g, {.beta1 = 0.9, .beta2 = 0.999});
  CHECK(m[0] == 0.1f);
  CHECK(v[0] == 0.001f);
}

TEMPLATE_TEST_CASE("one SGD update, with a buffer and without", "[ops]", float, double) {
  using T = TestType;
  for (const auto& [rows, cols] : sizes) {
    CAPTURE(rows, cols);
    const Shape shape = {rows, cols};
    const Tensor<T> p = with_gaps(random_normal<T>(shape)), buffer = random_normal<T>(shape, 2), g = with_gaps(random_normal<T>(shape, 4), 2);
    Array p_new = 0.99 * array(p) - 0.1 * array(g);
    ops::sgd_update<T>(p, View<T>(), g, 0.1, 0.9, 0.99);
    CHECK_THAT(array(p), is_near<T>(p_new));
    const Array buffer_new = 0.9 * array(buffer) + array(g);
    p_new = 0.99 * array(p) - 0.1 * buffer_new;
    ops::sgd_update<T>(p, buffer, g, 0.1, 0.9, 0.99);
    CHECK_THAT(array(buffer), is_near<T>(buffer_new));
    CHECK_THAT(array(p), is_near<T>(p_new));
  }
}

TEMPLATE_TEST_CASE("an element's update does not depend on its place, nor on threads", "[ops]", float, double) {
  using T = TestType;
  const ops::AdamwStep step{.decay = 0.99, .step_size = 0.02, .root_bias2 = 0.3};
  const std::int64_t n = 1037;
  const Tensor<T> p = random_normal<T>({n}), m = random_normal<T>({n}, 2), v({n}, T(0.5)), g = random_normal<T>({n}, 4), kept_p = p.clone(), kept_m = m.clone(),
                  kept_v = v.clone();
  ops::adamw_update<T>(p, m, v, g, step);
  for (const int threads : {1, 2, 4}) {  // the same numbers as a column
    const Threads guard(threads);
    const Tensor<T> q = kept_p.clone().reshape({n, 1}), mq = kept_m.clone().reshape({n, 1}), vq = kept_v.clone().reshape({n, 1});
    ops::adamw_update<T>(q, mq, vq, g.reshape({n, 1}), step);
    CHECK(same_bits(q.reshape({n}), p));
    CHECK(same_bits(mq.reshape({n}), m));
    CHECK(same_bits(vq.reshape({n}), v));
  }
}
