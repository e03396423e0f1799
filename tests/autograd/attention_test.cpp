// SPDX-License-Identifier: Apache-2.0
#include "peft/autograd/functions/attention.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "peft/autograd/functions/elementwise.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
// Sequences of these lengths, one behind the other.
AttentionSpans<double> spans(std::initializer_list<std::int64_t> lengths) {
  AttentionSpans<double> all;
  std::int64_t row = 0;
  for (std::int64_t length : lengths) {
    AttentionSpan<double> span;
    span.begin = row, span.end = row += length;
    all.push_back(span);
  }
  return all;
}
ops::AttentionShape heads(std::int64_t n, std::int64_t kv, std::int64_t dim, bool causal = true, std::int64_t window = 0, double softcap = 0) {
  return {n, kv, dim, 1 / std::sqrt(double(dim)), causal, window, softcap};
}
}  // namespace

TEST_CASE("attention gradient", "[autograd][gradcheck]") {
  struct Case {
    const char* what;
    ops::AttentionShape shape;
    AttentionSpans<double> spans;
  };
  AttentionSpans<double> context = spans({5, 3});
  context[0].context = 3, context[1].context = 1;
  for (const Case& c : {Case{"causal", heads(2, 2, 3), spans({6})}, Case{"bidirectional", heads(2, 2, 3, false), spans({6})},
                        Case{"grouped queries", heads(4, 2, 3), spans({5})}, Case{"one key head", heads(3, 1, 2), spans({5})},
                        Case{"window", heads(2, 1, 3, true, 3), spans({7})}, Case{"several sequences", heads(4, 2, 3), spans({3, 1, 4})},
                        Case{"several, bidirectional", heads(2, 2, 3, false), spans({3, 1, 4})}, Case{"context", heads(2, 2, 3), context},
                        Case{"window and context", heads(2, 2, 3, true, 2), context}, Case{"soft cap", heads(4, 2, 3, true, 0, 0.7), spans({5, 3})},
                        Case{"soft cap and window", heads(2, 1, 3, true, 3, 2.0), spans({7})}}) {
    CAPTURE(c.what);
    const std::int64_t n = c.spans.back().end, q = c.shape.heads * c.shape.head_dim, kv = c.shape.kv_heads * c.shape.head_dim;
    CHECK(gradcheck([&](const Variables& v) { return attention<double>(v[0], v[1], v[2], c.spans, c.shape); },
                    {normal({n, q}), normal({n, kv}, 2), normal({n, kv}, 3)}));
    if (c.shape.softcap > 0) continue;  // which has no bias beside it
    CHECK(gradcheck([&](const Variables& v) { return attention<double>(v[0], v[1], v[2], c.spans, c.shape, v[3], n); },
                    {normal({n, q}), normal({n, kv}, 2), normal({n, kv}, 3), normal({2 * n, c.shape.heads}, 4)}));
  }
}

TEST_CASE("attention gradient beyond one tile of keys", "[autograd][gradcheck]") {
  // 70 keys of one sequence; checked along one random direction an input, which central differences do at once
  const std::int64_t n = 70;
  for (const std::int64_t window : {0, 66, 65}) {
    const auto shape = heads(2, 1, 4, true, window, window == 65 ? 0.8 : 0.0);
    const std::vector<Tensor<double>> inputs = {normal({n, 8}), normal({n, 4}, 2), normal({n, 4}, 3)};
    const Tensor<double> weights = normal({n, 8}, 4);
    const auto value = [&](const std::vector<Tensor<double>>& at) { return dot(attention<double>(at[0], at[1], at[2], spans({n}), shape).value(), weights); };
    Variables v;
    {
      Tape tape;
      for (const auto& input : inputs) v.emplace_back(input, true);
      tape.backward(attention<double>(v[0], v[1], v[2], spans({n}), shape), weights.clone());
    }
    for (std::size_t i = 0; i < 3; i++) {
      const Tensor<double> direction = normal(inputs[i].shape(), 5 + i);
      double slope = 0;
      for (const double h : {1e-5, -1e-5}) {
        std::vector<Tensor<double>> moved = inputs;
        moved[i] = inputs[i].clone();
        ops::axpy<double>(moved[i].view(), h, direction.view());
        slope += value(moved) / (2 * h);
      }
      CHECK(dot(v[i].grad(), direction) == Approx(slope).epsilon(1e-6));
    }
  }
}

TEST_CASE("attention gradient with prefixes", "[autograd][gradcheck]") {
  for (const bool causal : {true, false})
    for (const std::int64_t window : {0, 4}) {
      CAPTURE(causal, window);
      const auto shape = heads(4, 2, 3, causal, window);
      // v[3], v[4]: a prefix of the first and the third sequence, whose gradients add up; v[5], v[6]: the second's own
      const auto f = [&](const Variables& v) {
        auto all = spans({3, 2, 4});
        all[0].prefix_k = all[2].prefix_k = v[3], all[0].prefix_v = all[2].prefix_v = v[4];
        all[1].prefix_k = v[5], all[1].prefix_v = v[6];
        return attention<double>(v[0], v[1], v[2], all, shape);
      };
      CHECK(gradcheck(f, {normal({9, 12}), normal({9, 6}, 2), normal({9, 6}, 3), normal({2, 6}, 4), normal({2, 6}, 5), normal({1, 6}, 6), normal({1, 6}, 7)}));
      // Prefix tuning: the prefix alone trains
      const Variable<double> q(normal({9, 12})), k(normal({9, 6}, 2)), v9(normal({9, 6}, 3));
      const auto prefix_alone = [&](const Variables& v) { return f({q, k, v9, v[0], v[1], v[2], v[3]}); };
      CHECK(gradcheck(prefix_alone, {normal({2, 6}, 4), normal({2, 6}, 5), normal({1, 6}, 6), normal({1, 6}, 7)}));
    }
}

TEST_CASE("attention gradient where queries, keys or values alone are wanted", "[autograd][gradcheck]") {
  const auto shape = heads(2, 2, 3);
  const Variable<double> a(normal({5, 6})), b(normal({5, 6}, 2)), c(normal({5, 6}, 3));
  CHECK(gradcheck([&](const Variables& v) { return attention<double>(v[0], b, c, spans({5}), shape); }, {normal({5, 6})}));
  CHECK(gradcheck([&](const Variables& v) { return attention<double>(a, v[0], c, spans({5}), shape); }, {normal({5, 6}, 2)}));
  CHECK(gradcheck([&](const Variables& v) { return attention<double>(a, b, v[0], spans({5}), shape); }, {normal({5, 6}, 3)}));
}

TEST_CASE("one variable may be query, key and value", "[autograd][gradcheck]") {
  CHECK(gradcheck([](const Variables& v) { return attention<double>(v[0], v[0], v[0], spans({3, 2}), heads(2, 2, 3)); }, {normal({5, 6})}));
}

TEST_CASE("parts of one fused projection give their gradients to the whole", "[autograd][gradcheck]") {
  CHECK(gradcheck(
      [](const Variables& v) {
        return attention<double>(columns(v[0], 0, 6), columns(v[0], 6, 9), columns(v[0], 9, 12), spans({3, 2}), heads(2, 1, 3));
      },
      {normal({5, 12})}));
}

TEST_CASE("a prefix is keys in front of position 0", "[autograd]") {
  const auto shape = heads(2, 2, 3);
  const Tensor<double> q = normal({6, 6}), k = normal({6, 6}, 2), v = normal({6, 6}, 3);
  const Tensor<double> whole = attention<double>(q, k, v, spans({6}), shape).value();
  auto split = spans({4});
  split[0].prefix_k = k.row_range(0, 2), split[0].prefix_v = v.row_range(0, 2);
  const Tensor<double> rest = attention<double>(q.row_range(2, 6), k.row_range(2, 6), v.row_range(2, 6), split, shape).value();
  CHECK(same_bits(rest, whole.row_range(2, 6).clone()));
}
