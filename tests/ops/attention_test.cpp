// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/attention.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;
using ops::AttentionShape;

namespace {

struct Lengths {
  std::int64_t queries, keys, prefix = 0, context = 0;  // keys: its own
};

// A packed batch. q, k and v are columns of one fused projection; each sequence has more keys than queries where a cache would.
template <class T>
struct Case {
  AttentionShape shape;
  std::vector<Lengths> lengths;
  std::int64_t rows = 0;
  Tensor<T> q, dout;
  std::vector<Tensor<T>> k, v, prefix_k, prefix_v;
  Tensor<T> table;  // of a relative bias, or none
  std::int64_t zero = 0;

  Case(const AttentionShape& s, std::vector<Lengths> all, bool biased = false) : shape(s), lengths(std::move(all)) {
    for (const Lengths& l : lengths) zero = std::max(zero, l.prefix + l.keys);
    if (biased) table = with_gaps(random_normal<T>({2 * zero + 1, shape.heads}, 13));
    for (const Lengths& l : lengths) rows += l.queries;
    const std::int64_t width = shape.heads * shape.head_dim, kv = shape.kv_heads * shape.head_dim;
    q = random_normal<T>({rows, width + 2 * kv}, 11).columns(kv, kv + width);
    dout = with_gaps(random_normal<T>({rows, width}, 12));
    std::uint64_t seed = 20;
    for (const Lengths& l : lengths) {
      const Tensor<T> both = random_normal<T>({l.keys, 2 * kv}, seed++);
      k.push_back(both.columns(0, kv)), v.push_back(both.columns(kv, 2 * kv));
      prefix_k.push_back(l.prefix ? random_normal<T>({l.prefix, kv}, seed++) : Tensor<T>());
      prefix_v.push_back(l.prefix ? random_normal<T>({l.prefix, kv}, seed++) : Tensor<T>());
    }
  }
  std::vector<ops::AttentionSequence<T>> sequences() const {
    std::vector<ops::AttentionSequence<T>> all;
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < lengths.size(); i++) {
      ops::AttentionSequence<T> s;
      s.begin = begin, s.end = begin += lengths[i].queries, s.k = k[i].view(), s.v = v[i].view(), s.context = lengths[i].context;
      if (prefix_k[i]) s.prefix_k = prefix_k[i].view(), s.prefix_v = prefix_v[i].view();
      all.push_back(s);
    }
    return all;
  }
  struct Result {
    Tensor<T> out, lse;
  };
  Result forward() const {
    Result r{with_gaps(poisoned<T>({rows, shape.heads * shape.head_dim})), poisoned<T>({rows, shape.heads})};
    ops::attention_forward<T>(r.out, r.lse, q, sequences(), shape, bias());
    return r;
  }
  ops::RelativeBias<T> bias() const { return table ? ops::RelativeBias<T>{table.view(), zero} : ops::RelativeBias<T>(); }
  struct Gradients {
    Tensor<T> dq;
    std::vector<Tensor<T>> k, v, prefix_k, prefix_v;
    Tensor<T> table = {};
  };
  Gradients backward(const Result& r) const {
    Gradients g{poisoned<T>({rows, shape.heads * shape.head_dim}), {}, {}, {}, {}};
    const std::int64_t kv = shape.kv_heads * shape.head_dim;
    std::vector<ops::AttentionSequenceGrad<T>> sinks(lengths.size());
    for (std::size_t i = 0; i < lengths.size(); i++) {
      g.k.push_back(with_gaps(poisoned<T>({lengths[i].keys, kv}))), g.v.push_back(poisoned<T>({lengths[i].keys, kv}));
      g.prefix_k.push_back(poisoned<T>({lengths[i].prefix, kv})), g.prefix_v.push_back(poisoned<T>({lengths[i].prefix, kv}));
      sinks[i].k = {g.k[i], false}, sinks[i].v = {g.v[i], false};
      if (lengths[i].prefix) sinks[i].prefix_k = {g.prefix_k[i], false}, sinks[i].prefix_v = {g.prefix_v[i], false};
    }
    if (table) g.table = poisoned<T>(table.shape());
    ops::attention_backward<T>({g.dq, false}, sinks, dout, r.out, r.lse, q, sequences(), shape, bias(),
                               table ? ops::GradSink<T>{g.table, false} : ops::GradSink<T>());
    return g;
  }
};

// softmax(scale · q kᵀ + bias + mask) v, one query and head at a time, in double.
template <class T>
Array formula(const Case<T>& c, Array& lse) {
  const AttentionShape& shape = c.shape;
  const std::int64_t dim = shape.head_dim;
  Array out = xt::zeros<double>({std::size_t(c.rows), std::size_t(shape.heads * dim)});
  lse = xt::zeros<double>({std::size_t(c.rows), std::size_t(shape.heads)});
  std::int64_t n = 0;
  for (std::size_t s = 0; s < c.lengths.size(); s++) {
    const Lengths& l = c.lengths[s];
    const std::int64_t keys = l.prefix + l.keys;
    for (std::int64_t i = 0; i < l.queries; i++, n++)
      for (std::int64_t h = 0; h < shape.heads; h++) {
        const std::int64_t at = keys - l.queries + i, column = h / (shape.heads / shape.kv_heads) * dim;
        const auto key = [&](const Tensor<T>& prefix, const Tensor<T>& own, std::int64_t j, std::int64_t d) {
          return double(j < l.prefix ? prefix(j, column + d) : own(j - l.prefix, column + d));
        };
        std::vector<double> score;
        double largest = -INFINITY, sum = 0;
        for (std::int64_t j = 0; j < keys; j++) {
          double x = 0;
          for (std::int64_t d = 0; d < dim; d++) x += double(c.q(n, h * dim + d)) * key(c.prefix_k[s], c.k[s], j, d);
          x *= shape.scale;
          if (shape.softcap > 0) x = shape.softcap * std::tanh(x / shape.softcap);
          if (c.table) x += double(c.table(c.zero + j - at, h));
          const bool past = !shape.causal || j <= at;
          const bool near = shape.window == 0 || (j > at - shape.window && j < at + shape.window);
          score.push_back((past && near) || j < l.context ? x : -INFINITY);
          largest = std::max(largest, score.back());
        }
        for (double x : score) sum += std::exp(x - largest);
        lse(std::size_t(n), std::size_t(h)) = largest + std::log(sum);
        for (std::int64_t j = 0; j < keys; j++)
          for (std::int64_t d = 0; d < dim; d++)
            out(std::size_t(n), std::size_t(h * dim + d)) += std::exp(score[std::size_t(j)] - largest) / sum * key(c.prefix_v[s], c.v[s], j, d);
      }
  }
  return out;
}

AttentionShape attention_shape(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim, bool causal = true, std::int64_t window = 0,
                               double softcap = 0) {
  return {heads, kv_heads, head_dim, 1 / std::sqrt(double(head_dim)), causal, window, softcap};
}

struct Setting {
  AttentionShape shape;
  std::vector<Lengths> lengths;
};
// Everything that there is to combine, around the sizes of blocks and tiles.
std::vector<Setting> settings() {
  return {
      {attention_shape(1, 1, 16), {{1, 1}}},
      {attention_shape(4, 4, 8), {{5, 5}, {64, 64}, {1, 1}, {65, 65}}},
      {attention_shape(9, 3, 64), {{130, 130}, {7, 7}}},
      {attention_shape(6, 2, 24), {{70, 70, 5}, {3, 3, 70}, {20, 20}}},       // prefixes
      {attention_shape(4, 1, 80), {{1, 129}, {2, 64, 3}, {9, 200}}},          // caches
      {attention_shape(2, 2, 7, false), {{33, 33}, {66, 66, 4}, {2, 90}}},    // bidirectional
      {attention_shape(4, 2, 16, true, 10), {{100, 100}, {1, 150}, {4, 4}}},  // windows
      {attention_shape(2, 1, 16, true, 64), {{140, 140, 20}}},
      {attention_shape(2, 2, 8, false, 5), {{75, 75}}},
      {attention_shape(3, 3, 40), {{90, 90, 0, 70}, {30, 30, 3, 12}, {80, 80, 0, 80}}},  // contexts
      {attention_shape(2, 1, 8, true, 6), {{100, 100, 0, 3}}},
      {attention_shape(71, 1, 4), {{3, 3}, {1, 70}}},  // more heads than a block has lanes
      {attention_shape(2, 1, 128), {{40, 40}, {0, 0}, {1, 1}}},
      {attention_shape(6, 2, 24, true, 0, 1.5), {{130, 130, 4}, {3, 90}, {1, 300}}},  // soft caps
      {attention_shape(2, 2, 10, true, 9, 0.4), {{70, 70}, {1, 80}}},
  };
}

}  // namespace

TEMPLATE_TEST_CASE("attention is a softmax over the keys that are seen", "[ops]", float, double) {
  using T = TestType;
  int number = 0;
  for (const auto& [shape, lengths] : settings()) {
    CAPTURE(number++);
    for (const bool biased : {false, true}) {
      if (biased && shape.softcap > 0) continue;
      const Case<T> c(shape, lengths, biased);
      const auto r = c.forward();
      Array lse;
      const Array want = formula(c, lse);
      CHECK_THAT(array(r.out), is_near<T>(want, 2));
      CHECK_THAT(array(r.lse), is_near<T>(lse));
    }
  }
}

TEST_CASE("attention's gradients are the slopes", "[ops][gradcheck]") {
  const std::vector<Setting> small = {
      {attention_shape(2, 1, 5), {{4, 4}, {3, 3, 2}}},
      {attention_shape(2, 2, 4, false), {{5, 5, 1}}},
      {attention_shape(2, 1, 3, true, 3), {{9, 9}, {6, 6, 2, 4}}},
      {attention_shape(1, 1, 2), {{66, 66, 3}}},
      {attention_shape(1, 1, 2, false, 4), {{10, 10}}},
      {attention_shape(2, 2, 3), {{2, 7}, {0, 3}}},  // keys that nobody sees have no gradient
      {attention_shape(4, 2, 3, true, 3, 0.5), {{9, 9}, {4, 4, 2, 3}}},
      {attention_shape(2, 1, 3, true, 0, 3), {{70, 70}}},
  };
  int number = 0;
  for (const auto& [shape, lengths] : small) {
    const bool biased = number % 2 == 0 && shape.softcap == 0;
    CAPTURE(number++);
    const Case<double> c(shape, lengths, biased);
    const auto f = [&] { return dot(c.forward().out, c.dout); };
    const auto g = c.backward(c.forward());
    CHECK_THAT(array(g.dq), IsNear(differences(c.q, f), 1e-6));
    if (biased) CHECK_THAT(array(g.table), IsNear(differences(c.table, f), 1e-6));
    for (std::size_t i = 0; i < lengths.size(); i++) {
      if (lengths[i].queries == 0) {
        CHECK_THAT(array(g.k[i]), IsNear(array(Tensor<double>::zeros(g.k[i].shape())), 0));
        continue;
      }
      CHECK_THAT(array(g.k[i]), IsNear(differences(c.k[i], f), 1e-6));
      CHECK_THAT(array(g.v[i]), IsNear(differences(c.v[i], f), 1e-6));
      if (!lengths[i].prefix) continue;
      CHECK_THAT(array(g.prefix_k[i]), IsNear(differences(c.prefix_k[i], f), 1e-6));
      CHECK_THAT(array(g.prefix_v[i]), IsNear(differences(c.prefix_v[i], f), 1e-6));
    }
  }
}

TEST_CASE("float gradients are the double ones, rounded", "[ops]") {
  int number = 0;
  std::vector<Setting> all = settings();
  all.push_back({attention_shape(4, 2, 16), {{600, 600, 10}}});  // cut into parts
  for (const auto& [shape, lengths] : all) {
    const bool biased = number % 2 == 0 && shape.softcap == 0;
    CAPTURE(number++);
    const Case<float> c(shape, lengths, biased);
    Case<double> exact(shape, lengths, biased);
    if (biased) exact.table = cast<double>(c.table);
    exact.q = cast<double>(c.q), exact.dout = cast<double>(c.dout);
    for (std::size_t i = 0; i < lengths.size(); i++) {
      exact.k[i] = cast<double>(c.k[i]), exact.v[i] = cast<double>(c.v[i]);
      if (lengths[i].prefix) exact.prefix_k[i] = cast<double>(c.prefix_k[i]), exact.prefix_v[i] = cast<double>(c.prefix_v[i]);
    }
    const auto found = c.backward(c.forward());
    const auto want = exact.backward(exact.forward());
    CHECK_THAT(array(found.dq), is_near<float>(array(want.dq), 3, 1));
    if (biased) CHECK_THAT(array(found.table), is_near<float>(array(want.table), 3, 1));
    for (std::size_t i = 0; i < lengths.size(); i++) {
      if (lengths[i].queries == 0) continue;
      CHECK_THAT(array(found.k[i]), is_near<float>(array(want.k[i]), 3, 1));
      CHECK_THAT(array(found.v[i]), is_near<float>(array(want.v[i]), 3));
      if (!lengths[i].prefix) continue;
      CHECK_THAT(array(found.prefix_k[i]), is_near<float>(array(want.prefix_k[i]), 3));
      CHECK_THAT(array(found.prefix_v[i]), is_near<float>(array(want.prefix_v[i]), 3));
    }
  }
}

TEMPLATE_TEST_CASE("a query has the same bits in prefill, with a cache and in any batch", "[ops]", float, double) {
  using T = TestType;
  const Threads two(2);
  for (const AttentionShape& shape :
       {attention_shape(9, 3, 64), attention_shape(2, 2, 24, true, 50), attention_shape(5, 1, 19), attention_shape(6, 3, 20, true, 70, 1.5)}) {
    const std::int64_t rows = 150, width = shape.heads * shape.head_dim;
    const Case<T> c(shape, {{rows, rows, 5}}, shape.kv_heads == 2);
    const auto whole = c.forward();
    const auto again = [&](std::int64_t begin, std::int64_t end) {  // the same queries, what came before them in a cache
      const Tensor<T> out = poisoned<T>({end - begin, width}), lse = poisoned<T>({end - begin, shape.heads});
      ops::AttentionSequence<T> s = c.sequences()[0];
      s.begin = 0, s.end = end - begin, s.k = s.k.row_range(0, end), s.v = s.v.row_range(0, end);
      ops::attention_forward<T>(out, lse, c.q.view().row_range(begin, end), std::vector{s}, shape, c.bias());
      CHECK(same_bits(out, whole.out.row_range(begin, end)));
      CHECK(same_bits(lse, whole.lse.row_range(begin, end)));
    };
    for (std::int64_t i : {0, 1, 40, 63, 64, 100, 149}) again(i, i + 1);
    again(0, 70), again(30, 33), again(60, 150), again(149, 150);
  }
}

TEMPLATE_TEST_CASE("keys of half precision are those numbers", "[ops]", float, double) {
  using T = TestType;
  for (const auto& [shape, lengths] : settings()) {
    Case<T> c(shape, lengths, shape.heads == 4);
    std::vector<Tensor<Float16>> half;
    auto sequences = c.sequences();
    for (std::size_t i = 0; i < lengths.size(); i++)
      for (Tensor<T>* rows : {&c.k[i], &c.v[i]}) {
        half.emplace_back(Shape{rows->rows(), rows->cols() + 3});
        half.back() = half.back().columns(1, 1 + rows->cols());
        for (std::int64_t r = 0; r < rows->rows(); r++)
          for (std::int64_t col = 0; col < rows->cols(); col++) {
            half.back()(r, col) = to_float16(float((*rows)(r, col)));
            (*rows)(r, col) = T(to_float(half.back()(r, col)));
          }
      }
    const auto whole = c.forward();
    for (std::size_t i = 0; i < lengths.size(); i++) {
      if (lengths[i].keys == 0) continue;
      sequences[i].k = sequences[i].v = {};
      sequences[i].k_half = half[2 * i].view(), sequences[i].v_half = half[2 * i + 1].view();
    }
    const Tensor<T> out = poisoned<T>(whole.out.shape()), lse = poisoned<T>(whole.lse.shape());
    ops::attention_forward<T>(out, lse, c.q, sequences, shape, c.bias());
    CHECK(same_bits(out, whole.out.clone()));
    CHECK(same_bits(lse, whole.lse));
    for (ops::AttentionSequence<T>& s : sequences)  // the same of a past
      if (const std::int64_t keys = s.own_keys(), past = keys / 2; s.k_half && past > 0) {
        s.past_k_half = s.k_half.row_range(0, past), s.past_v_half = s.v_half.row_range(0, past);
        s.k_half = s.k_half.row_range(past, keys), s.v_half = s.v_half.row_range(past, keys);
      }
    const Tensor<T> split = poisoned<T>(whole.out.shape());
    ops::attention_forward<T>(split, lse, c.q, sequences, shape, c.bias());
    CHECK(same_bits(split, whole.out.clone()));
    std::vector<ops::AttentionSequenceGrad<T>> none(lengths.size());
    if (lengths[0].keys > 0)
      CHECK_THROWS_WITH(ops::attention_backward<T>({}, none, c.dout, out, lse, c.q, sequences, shape), Catch::Contains("half precision"));
  }
}

TEMPLATE_TEST_CASE("the past is keys like its neighbours, and keys that no query sees may be missing", "[ops]", float, double) {
  using T = TestType;
  for (const std::int64_t queries : {1, 3, 90}) {
    const Case<T> c(attention_shape(4, 2, 24, true, 100), {{queries, 700}}, true);
    const auto whole = c.forward();
    const auto all = c.sequences()[0];
    const auto check = [&](const ops::AttentionSequence<T>& s) {
      const Tensor<T> out = poisoned<T>(whole.out.shape()), lse = poisoned<T>(whole.lse.shape());
      ops::attention_forward<T>(out, lse, c.q, std::vector{s}, c.shape, c.bias());
      CHECK(same_bits(out, whole.out.clone()));
      CHECK(same_bits(lse, whole.lse));
    };
    ops::AttentionSequence<T> s = all;
    s.prefix_k = all.k.row_range(0, 7), s.prefix_v = all.v.row_range(0, 7);
    s.past_k = all.k.row_range(7, 600), s.past_v = all.v.row_range(7, 600);
    s.k = all.k.row_range(600, 700), s.v = all.v.row_range(600, 700);
    check(s);
    s.prefix_k = s.prefix_v = {};
    s.past_k = all.k.row_range(256, 600), s.past_v = all.v.row_range(256, 600);
    check(s);
    s.past_k = s.past_v = {}, s.k = all.k.row_range(queries < 90 ? 512 : 256, 700), s.v = all.v.row_range(queries < 90 ? 512 : 256, 700);
    check(s);
    std::vector<ops::AttentionSequenceGrad<T>> none(1);
    s.past_k = s.past_v = all.k.row_range(0, 1);
    CHECK_THROWS_WITH(ops::attention_backward<T>({}, none, c.dout, whole.out, whole.lse, c.q, std::vector{s}, c.shape, c.bias()), Catch::Contains("a past"));
    s.past_v = all.v.row_range(0, 2);
    CHECK_THROWS_WITH(ops::attention_forward<T>(whole.out, whole.lse, c.q, std::vector{s}, c.shape, c.bias()), Catch::Contains("a past of 1"));
  }
}

TEMPLATE_TEST_CASE("attention gives the same bits on any number of threads", "[ops]", float, double) {
  using T = TestType;
  const Case<T> c(attention_shape(6, 2, 16), {{300, 300, 9}, {40, 40}, {1, 200}});
  const auto run = [&](int threads) {
    const Threads guard(threads);
    auto g = c.backward(c.forward());
    g.prefix_v.push_back(c.forward().out);
    return g;
  };
  const auto one = run(1), two = run(2), three = run(3);
  for (const auto* other : {&two, &three}) {
    CHECK(same_bits(other->dq, one.dq));
    for (std::size_t i = 0; i < one.k.size(); i++) {
      CHECK(same_bits(other->k[i], one.k[i]));
      CHECK(same_bits(other->v[i], one.v[i]));
      CHECK(same_bits(other->prefix_k[i], one.prefix_k[i]));
    }
    for (std::size_t i = 0; i < one.prefix_v.size(); i++) CHECK(same_bits(other->prefix_v[i], one.prefix_v[i]));
  }
}

TEMPLATE_TEST_CASE("gradients are added where something is, and each sink stands by itself", "[ops]", float, double) {
  using T = TestType;
  const Case<T> c(attention_shape(4, 2, 24), {{150, 150, 3}, {10, 10, 3}});
  const auto r = c.forward();
  const auto want = c.backward(r);
  const std::int64_t kv = 48;
  const Tensor<T> dq = random_normal<T>({160, 96}, 31), dk0 = random_normal<T>({150, kv}, 32), dv1 = random_normal<T>({10, kv}, 33);
  const Tensor<T> shared = poisoned<T>({3, kv});
  const Array dq_before = array(dq), dk0_before = array(dk0), dv1_before = array(dv1);
  std::vector<ops::AttentionSequenceGrad<T>> sinks(2);
  const auto call = [&](ops::GradSink<T> to) { ops::attention_backward<T>(to, sinks, c.dout, r.out, r.lse, c.q, c.sequences(), c.shape); };
  call({dq, true});  // nobody wants the keys'
  CHECK_THAT(array(dq), is_near<T>(dq_before + array(want.dq)));
  sinks[0].k = {dk0, true};
  sinks[1].v = {dv1, true};
  call({});
  CHECK_THAT(array(dk0), is_near<T>(dk0_before + array(want.k[0])));
  CHECK_THAT(array(dv1), is_near<T>(dv1_before + array(want.v[1])));
  sinks.assign(2, {});
  sinks[0].prefix_k = {shared, false}, sinks[1].prefix_k = {shared, true};  // one prefix for both
  call({});
  CHECK_THAT(array(shared), is_near<T>(array(want.prefix_k[0]) + array(want.prefix_k[1])));
}

TEST_CASE("attention takes no new memory the second time", "[ops]") {
  const Threads two(2);
  const Case<float> c(attention_shape(4, 2, 32), {{200, 200}, {50, 50}});
  const auto r = c.forward();
  const auto g = c.backward(r);
  const std::vector<ops::AttentionSequenceGrad<float>> sinks = {{{g.k[0], true}, {g.v[0], true}, {}, {}}, {{g.k[1], true}, {g.v[1], true}, {}, {}}};
  const std::int64_t before = memory::statistics().system_calls;
  for (int i = 0; i < 5; i++) {
    ops::attention_forward<float>(r.out, r.lse, c.q, c.sequences(), c.shape);
    ops::attention_backward<float>({g.dq, true}, sinks, c.dout, r.out, r.lse, c.q, c.sequences(), c.shape);
  }
  CHECK(memory::statistics().system_calls == before);
}

TEST_CASE("attention refuses what does not fit", "[ops]") {
  const Case<float> c(attention_shape(4, 2, 8), {{5, 5}});
  const Tensor<float> out({5, 32}), lse({5, 4});
  AttentionShape shape = c.shape;
  shape.kv_heads = 3;
  CHECK_THROWS_AS(ops::attention_forward<float>(out, lse, c.q, c.sequences(), shape), ShapeError);
  shape = c.shape, shape.head_dim = 9;
  CHECK_THROWS_AS(ops::attention_forward<float>(out, lse, c.q, c.sequences(), shape), ShapeError);
  auto sequences = c.sequences();
  sequences[0].k = sequences[0].k.row_range(0, 4);
  CHECK_THROWS_AS(ops::attention_forward<float>(out, lse, c.q, sequences, c.shape), ShapeError);
  sequences = c.sequences(), sequences[0].end = 6;
  CHECK_THROWS_AS(ops::attention_forward<float>(out, lse, c.q, sequences, c.shape), ShapeError);
  // A relative bias covers every distance that is seen, and all heads.
  sequences = c.sequences();
  const Tensor<float> table({5, 4}, 0.f);
  ops::attention_forward<float>(out, lse, c.q, sequences, c.shape, {table.view(), 4});
  CHECK_THROWS_WITH(ops::attention_forward<float>(out, lse, c.q, sequences, c.shape, {table.view(), 3}), Catch::Contains("distances -4 … 0"));
  CHECK_THROWS_AS(ops::attention_forward<float>(out, lse, c.q, sequences, c.shape, {table.view().columns(0, 3), 4}), ShapeError);
  shape = c.shape, shape.causal = false;
  CHECK_THROWS_AS(ops::attention_forward<float>(out, lse, c.q, sequences, shape, {table.view(), 4}), ShapeError);
  shape = c.shape, shape.softcap = 2;
  CHECK_THROWS_WITH(ops::attention_forward<float>(out, lse, c.q, sequences, shape, {table.view(), 4}), Catch::Contains("besides a relative bias"));
  shape.softcap = -1;
  CHECK_THROWS_AS(ops::attention_forward<float>(out, lse, c.q, sequences, shape), ConfigError);
}
