// SPDX-License-Identifier: Apache-2.0
// What some architectures have and others lack, each against what it is short for.
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "peft/core/float16.hpp"
#include "peft/nn/transformer.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

// Rows of several Linears, one under the other.
Linear<double> stacked(const std::vector<Linear<double>>& parts, const std::string& path) {
  std::vector<Variable<double>> weights;
  for (const auto& part : parts) weights.push_back(part.weight.variable());
  return Linear<double>(Parameter<double>(concat_rows<double>(weights).value().clone()), {}, path);
}
Tensor<double> states(const Transformer<double>& model) { return hidden_states(model, random_ids(9, model.config.vocab_size), pass_over<double>({5, 4})); }
Embedding<double> table_of(std::int64_t rows, std::int64_t hidden, std::uint64_t seed) {
  Embedding<double> e;
  e.weight = Parameter<double>(random_normal<double>({rows, hidden}, seed));
  return e;
}
Norm<double> norm_of(std::int64_t size, std::uint64_t seed) {
  Norm<double> n;
  n.weight = Parameter<double>(random_normal<double>({size}, seed));
  return n;
}

}  // namespace

TEST_CASE("a norm shorter than a row normalises each part of the row", "[nn][gradcheck]") {
  for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
    Norm<double> n = norm_of(4, 1);
    n.kind = kind;
    if (kind == NormKind::layer) n.bias = Parameter<double>(normal({4}, 2));
    const auto x = normal({3, 12}, 3);
    const Tensor<double> whole = n(Variable<double>(x)).value();
    for (std::int64_t head = 0; head < 3; head++)
      CHECK(same_bits(whole.columns(4 * head, 4 * head + 4).clone(), n(Variable<double>(x.columns(4 * head, 4 * head + 4).clone())).value()));
    n.weight.set_requires_grad(true);
    CHECK(gradcheck([&](const Variables& v) { return n(v[0]); }, {x}, {n.weight}));
    CHECK(gradcheck([&](const Variables& v) { return n(columns(v[0], 2, 10)); }, {x}, {n.weight}));
  }
  CHECK_THROWS_AS(norm_of(5, 1)(Variable<double>(normal({3, 12}))), ShapeError);
}

TEST_CASE("one Linear in place of several computes the same", "[nn]") {
  const auto apart = tiny_transformer<double>({.hidden = 16, .heads = 4, .kv_heads = 2});
  auto fused = apart;
  for (auto& block : fused.layers) {
    Attention<double>& a = block.self_attn;
    a.qkv_proj = stacked({a.q_proj, a.k_proj, a.v_proj}, "qkv_proj");
    block.mlp.gate_up_proj = stacked({*block.mlp.gate_proj, block.mlp.up_proj}, "gate_up_proj");
  }
  CHECK_THAT(array(states(fused)), is_near<double>(array(states(apart)), 10));
  int sites = 0;
  for_each_site(fused, [&]<class S>(const std::string&, S&) { sites += std::is_same_v<S, Linear<double>>; });
  CHECK(sites == 2 * 4 + 1);  // qkv, o, gate_up and down of each layer, and the head
}

TEST_CASE("norms stand where a block has them", "[nn]") {
  auto model = tiny_transformer<double>({.layers = 1});
  Block<double>& b = model.layers[0];
  const Pass<double> pass = pass_over<double>({5, 4});
  const PassScope<double> scope(pass);
  const Variable<double> h(normal({9, 8}, 5));
  b.post_self_attn_layernorm = norm_of(8, 1), b.post_mlp_layernorm = norm_of(8, 2);
  {  // around each sublayer
    const auto middle = add(h, (*b.post_self_attn_layernorm)(b.self_attn((*b.input_layernorm)(h))));
    const auto end = add(middle, (*b.post_mlp_layernorm)(b.mlp((*b.post_attention_layernorm)(middle))));
    CHECK_THAT(array(b(h).value()), is_near<double>(array(end.value())));
  }
  b.input_layernorm.reset(), b.post_attention_layernorm.reset(), b.post_self_attn_layernorm.reset(), b.post_mlp_layernorm.reset();
  b.attention_join.norm = norm_of(8, 3), b.mlp_join.norm = norm_of(8, 4);
  {  // behind the joins
    const auto middle = (*b.attention_join.norm)(add(h, b.self_attn(h)));
    const auto end = (*b.mlp_join.norm)(add(middle, b.mlp(middle)));
    CHECK_THAT(array(b(h).value()), is_near<double>(array(end.value())));
  }
}

TEST_CASE("a residual may be what a norm has made of it", "[nn]") {
  auto model = tiny_transformer<double>({.layers = 1});
  Block<double>& b = model.layers[0];
  b.normed_residual = 3;
  const Pass<double> pass = pass_over<double>({5, 4});
  const PassScope<double> scope(pass);
  const Variable<double> h(normal({9, 8}, 5));
  const auto u = (*b.input_layernorm)(h);
  const auto v = (*b.post_attention_layernorm)(add(scale(u, 3.0), b.self_attn(u)));
  CHECK_THAT(array(b(h).value()), is_near<double>(array(add(scale(v, 3.0), b.mlp(v)).value())));
}

TEST_CASE("positions in two dimensions turn a head's halves, and a context sees all of itself", "[nn][gradcheck]") {
  Random random(5);
  Attention<double> a;
  for (Linear<double>* l : {&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj}) *l = Linear<double>(16, 16, random);
  a.core.shape = {2, 2, 8, 0.6, true, 0};
  const RopeConfig rope{.two_dimensional = true, .half_frequencies = true};
  const std::vector<double> frequencies = rope_frequencies(rope, 4);
  CHECK(frequencies[1] == double(to_float(to_float16(0.01f))));
  a.rotary = std::make_shared<Rotary<double>>(frequencies, 4, false);
  const auto x = normal({7, 16}, 1);
  std::vector<Sequence, PoolAllocator<Sequence>> layout(1);
  layout[0].end = 7, layout[0].context = 3, layout[0].blank = {1, 3};
  Pass<double> pass;
  pass.sequences = std::make_shared<Sequences>(layout);
  const std::vector<int> position = {0, 1, 2, 1, 1, 1, 1}, block = {0, 0, 0, 1, 2, 3, 4};
  const auto turned = [&](const Tensor<double>& y) {
    Tensor<double> z = y.clone();
    for (std::int64_t n = 0; n < 7; n++)
      for (std::int64_t half = 0; half < 4; half++)
        for (std::int64_t i = 0; i < 2; i++) {
          const double angle = frequencies[std::size_t(i)] * (half % 2 ? block : position)[std::size_t(n)];
          const std::int64_t at = 4 * half + i;
          z(n, at) = y(n, at) * std::cos(angle) - y(n, at + 2) * std::sin(angle);
          z(n, at + 2) = y(n, at + 2) * std::cos(angle) + y(n, at) * std::sin(angle);
        }
    return z;
  };
  const auto of = [&](const Variable<double>& rows_of_x) {
    const PassScope<double> scope(pass);
    return a(rows_of_x);
  };
  const Tensor<double> q = turned(a.q_proj(Variable<double>(x)).value()), k = turned(a.k_proj(Variable<double>(x)).value()),
                       v = a.v_proj(Variable<double>(x)).value();
  Tensor<double> context({7, 16}, 0.0);
  for (std::int64_t i = 0; i < 7; i++)
    for (std::int64_t head = 0; head < 2; head++) {
      double total = 0;
      const auto each = [&](auto f) {
        for (std::int64_t j = 0; j <= std::max<std::int64_t>(i, 2); j++) {
          double score = 0;
          for (std::int64_t c = 8 * head; c < 8 * head + 8; c++) score += 0.6 * q(i, c) * k(j, c);
          f(j, std::exp(score));
        }
      };
      each([&](std::int64_t, double e) { total += e; });
      each([&](std::int64_t j, double e) {
        for (std::int64_t c = 8 * head; c < 8 * head + 8; c++) context(i, c) += e / total * v(j, c);
      });
    }
  CHECK_THAT(array(of(Variable<double>(x)).value()), is_near<double>(array(a.o_proj(Variable<double>(context)).value())));
  CHECK(gradcheck([&](const Variables& in) { return of(in[0]); }, {x}, {a.q_proj.weight, a.k_proj.weight}));
  pass.sequences = Sequences::of_lengths(std::vector<std::int64_t>{7});
  CHECK_THROWS_WITH(of(Variable<double>(x)), Contains("positions in two dimensions, and no blank"));
}

TEST_CASE("learned positions: where a sequence begins, and where the table ends", "[nn]") {
  auto model = tiny_transformer<double>();
  model.embed_positions = table_of(6, 8, 2), model.layers.clear(), model.norm.reset();
  const std::vector<std::int32_t> ids = {3, 4, 5};
  const auto at = [&](std::int64_t first) {
    Pass<double> pass;
    Sequence s;
    s.end = 3, s.first_position = first;
    pass.sequences = std::make_shared<Sequences>(std::vector<Sequence, PoolAllocator<Sequence>>{s});
    return hidden_states(model, ids, pass);
  };
  for (const std::int64_t first : {0, 3})
    for (std::int64_t i = 0; i < 3; i++)
      CHECK(at(first)(i, 2) == model.embed_tokens.weight.value()(ids[std::size_t(i)], 2) + model.embed_positions->weight.value()(first + i, 2));
  CHECK_THROWS_WITH(at(4), Contains("position 6; this model has learned 6 positions"));

  // As RoBERTa counts: from behind the padding's id, and padding in the text has its own row.
  model.config.embedding.padding_idx = 1, model.config.embedding.first_position = 2, model.config.embedding.padding_has_position = false;
  const Tensor<double> h = hidden_states(model, std::vector<std::int32_t>{3, 1, 5}, pass_over<double>({3}));
  const Tensor<double>&words = model.embed_tokens.weight.value(), &places = model.embed_positions->weight.value();
  CHECK(h(0, 0) == words(3, 0) + places(2, 0));
  CHECK(h(1, 0) == words(1, 0) + places(1, 0));
  CHECK(h(2, 0) == words(5, 0) + places(3, 0));
  CHECK_THROWS_WITH(at(2), Contains("position 4; this model has learned 4 positions"));
}

TEST_CASE("segments are added, 0 if none are given, and a norm may follow", "[nn]") {
  auto model = tiny_transformer<double>();
  CHECK_THROWS_WITH(
      [&] {
        const Pass<double> pass = pass_over<double>({2});
        const PassScope<double> scope(pass);
        model.hidden_states(std::vector<std::int32_t>{3, 4}, std::vector<std::int32_t>{0, 1});
      }(),
      Contains("which has none"));
  model.embed_token_types = table_of(2, 8, 2), model.embedding_norm = norm_of(8, 3), model.layers.clear(), model.norm.reset();
  const Pass<double> pass = pass_over<double>({2});
  const PassScope<double> scope(pass);
  const std::vector<std::int32_t> ids = {3, 4}, zeros = {0, 0}, types = {0, 1};
  CHECK(same_bits(model.hidden_states(ids).value(), model.hidden_states(ids, zeros).value()));
  const auto sum = add(model.embed_tokens(ids), (*model.embed_token_types)(types));
  CHECK(same_bits(model.hidden_states(ids, types).value(), (*model.embedding_norm)(sum).value()));
  CHECK_THROWS_WITH(model.hidden_states(ids, std::vector<std::int32_t>{0}), Contains("1 token types for 2 ids"));
}

TEST_CASE("a head may read one row of each sequence", "[nn][gradcheck]") {
  auto model = tiny_transformer<double>();
  Random random(3);
  model.lm_head = Linear<double>(8, 3, random);
  model.head_transform.emplace();
  model.head_transform->dense = Linear<double>(8, 8, random);
  const Pass<double> pass = pass_over<double>({5, 4});
  const auto h = normal({9, 8}, 4);
  const std::vector<std::int32_t> classes = {2, 0};
  for (const Pooling pooling : {Pooling::first, Pooling::last}) {
    model.config.head.pooling = pooling, model.config.head.task = TaskType::seq_cls, model.config.head.num_labels = 3;
    CHECK_THROWS_WITH(model.logits(Variable<double>(h)), Contains("needs the Pass"));
    const PassScope<double> scope(pass);
    const Tensor<double> y = model.logits(Variable<double>(h)).value();
    CHECK(y.shape() == Shape{2, 3});
    const std::int64_t row = pooling == Pooling::first ? 5 : 8;  // of the second sequence
    const Variable<double> one(h.row_range(row, row + 1).clone());
    CHECK_THAT(array(y.row_range(1, 2).clone()), is_near<double>(array(model.lm_head((*model.head_transform)(one)).value())));
    CHECK(gradcheck([&](const Variables& v) { return model.loss(v[0], classes); }, {h}, {model.lm_head.weight, model.head_transform->dense.weight}));
    const auto targets = normal({2, 3}, 6);
    for (const ProblemType problem : {ProblemType::regression, ProblemType::multi_label_classification}) {
      model.config.head.problem = problem;
      CHECK(gradcheck([&](const Variables& v) { return model.loss(v[0], targets); }, {h}, {model.lm_head.bias}));
    }
  }
  model.lm_head = {};
  CHECK_THROWS_WITH(model.logits(Variable<double>(h)), Contains("this model has no head"));
}

TEST_CASE("where an answer starts and ends is chosen among the rows of its sequence", "[nn][gradcheck]") {
  auto model = tiny_transformer<double>();
  Random random(3);
  model.lm_head = Linear<double>(8, 2, random);
  const Pass<double> pass = pass_over<double>({5, 4});
  const PassScope<double> scope(pass);
  const auto h = normal({9, 8}, 4);
  const std::vector<std::int32_t> starts = {1, 3}, ends = {4, ignore_index};
  const Tensor<double> y = model.logits(Variable<double>(h)).value();
  const auto entropy = [&](std::int64_t begin, std::int64_t end, std::int64_t column, std::int64_t place) {
    double sum = 0;
    for (std::int64_t i = begin; i < end; i++) sum += std::exp(y(i, column));
    return std::log(sum) - y(begin + place, column);
  };
  const double wanted = ((entropy(0, 5, 0, 1) + entropy(5, 9, 0, 3)) / 2 + entropy(0, 5, 1, 4)) / 2;  // the second end is unknown
  CHECK(model.span_loss(Variable<double>(h), starts, ends).value()[0] == Approx(wanted).epsilon(1e-12));
  CHECK(gradcheck([&](const Variables& v) { return model.span_loss(v[0], starts, ends); }, {h}, {model.lm_head.weight}));
  CHECK_THROWS_WITH(model.span_loss(Variable<double>(h), starts, std::vector<std::int32_t>{1}), Contains("2 starts and 1 ends for 2 sequences"));
}

TEST_CASE("YaRN's frequencies are those that transformers computes", "[nn]") {
  RopeConfig yarn{.scaling = RopeScaling::yarn, .factor = 4, .original_max_position_embeddings = 16};
  const auto check = [&](const std::vector<double>& wanted, double magnitude) {
    const std::vector<double> found = rope_frequencies(yarn, 16);
    REQUIRE(found.size() == wanted.size());
    for (std::size_t i = 0; i < found.size(); i++) CHECK(found[i] == Approx(wanted[i]).epsilon(1e-6));
    CHECK(rope_magnitude(yarn) == Approx(magnitude).epsilon(1e-12));
  };
  check({1, 0.079056941, 0.025, 0.00790569466, 0.0025, 0.000790569466, 0.00025, 7.90569466e-05}, 1.138629436111989);
  yarn.original_max_position_embeddings = 64, yarn.beta_fast = 4, yarn.beta_slow = 0.5, yarn.attention_factor = 1.3, yarn.truncate = false;
  check({1, 0.291525632, 0.0506643951, 0.00790569466, 0.0025, 0.000790569466, 0.00025, 7.90569466e-05}, 1.3);
}

TEST_CASE("buckets of distances are those that transformers computes", "[nn]") {
  const std::vector<std::int64_t> distances = {-200, -128, -127, -91, -64, -63, -46, -32, -31, -23, -16, -15, -12, -8, -7,
                                               -1,   0,    1,    7,   8,   11,  12,  16,  32,  64,  90,  91,  128, 300};
  const auto buckets = [&](bool bidirectional, std::int64_t n, std::int64_t max_distance) {
    std::vector<std::int32_t> found;
    for (const std::int64_t d : distances) found.push_back(relative_bucket(d, bidirectional, n, max_distance));
    return found;
  };
  CHECK(buckets(true, 32, 128) ==
        std::vector<std::int32_t>{15, 15, 15, 15, 14, 13, 13, 12, 11, 11, 10, 9, 9, 8, 7, 1, 0, 17, 23, 24, 24, 25, 26, 28, 30, 30, 31, 31, 31});
  CHECK(buckets(false, 32, 128) ==
        std::vector<std::int32_t>{31, 31, 31, 29, 26, 26, 24, 21, 21, 18, 16, 15, 12, 8, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(buckets(true, 8, 12) == std::vector<std::int32_t>{3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 0, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7});
}

TEST_CASE("cross-attention: each row is a mean of its source's values, by the softmax of its scores", "[nn][gradcheck]") {
  Random random(5);
  Attention<double> a;
  a.cross = true;
  for (Linear<double>* l : {&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj}) *l = Linear<double>(6, 6, random);
  a.core.shape = {2, 2, 3, 0.7, false, 0};
  const auto x = normal({9, 6}, 1), from = normal({7, 6}, 2);
  Pass<double> pass = pass_over<double>({5, 4});
  {
    const PassScope<double> scope(pass);
    CHECK_THROWS_WITH(a(Variable<double>(x)), Contains("cross-attention without a source"));
  }
  pass.source_sequences = Sequences::of_lengths(std::vector<std::int64_t>{2, 5}), pass.source = Variable<double>(from);
  const auto of = [&](const Variable<double>& rows_of_x, const Variable<double>& source) {
    pass.source = source;
    const PassScope<double> scope(pass);
    return a(rows_of_x);
  };
  const Tensor<double> found = of(Variable<double>(x), Variable<double>(from)).value().clone();
  const Tensor<double> q = a.q_proj(Variable<double>(x)).value().clone(), k = a.k_proj(Variable<double>(from)).value().clone(),
                       v = a.v_proj(Variable<double>(from)).value().clone();
  Tensor<double> context({9, 6}, 0.0);
  for (std::int64_t i = 0; i < 9; i++)
    for (std::int64_t head = 0; head < 2; head++) {
      double total = 0;
      const auto each = [&](auto f) {
        for (std::int64_t j = i < 5 ? 0 : 2; j < (i < 5 ? 2 : 7); j++) {
          double score = 0;
          for (std::int64_t c = 3 * head; c < 3 * head + 3; c++) score += 0.7 * q(i, c) * k(j, c);
          f(j, std::exp(score));
        }
      };
      each([&](std::int64_t, double e) { total += e; });
      each([&](std::int64_t j, double e) {
        for (std::int64_t c = 3 * head; c < 3 * head + 3; c++) context(i, c) += e / total * v(j, c);
      });
    }
  CHECK_THAT(array(found), is_near<double>(array(a.o_proj(Variable<double>(context)).value())));
  CHECK(gradcheck([&](const Variables& in) { return of(in[0], in[1]); }, {x, from}, {a.q_proj.weight, a.k_proj.weight, a.v_proj.bias}));
  pass.source_sequences = Sequences::of_lengths(std::vector<std::int64_t>{7});
  CHECK_THROWS_WITH(of(Variable<double>(x), Variable<double>(from)), Contains("2 sequences are decoded from 1 sources"));
}
