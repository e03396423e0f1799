// SPDX-License-Identifier: Apache-2.0
#include "peft/nn/transformer.hpp"

#include <catch2/catch.hpp>
#include <vector>

#include "peft/adapters/lora/lora.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "support/threads.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

template <Scalar T>
std::vector<Parameter<T>> train_everything(Transformer<T>& model) {
  std::vector<Parameter<T>> all;
  for_each_parameter(model, [&](const std::string&, Parameter<T>& p) {
    p.set_requires_grad(true);
    if (std::ranges::none_of(all, [&](const auto& other) { return other.identity() == p.identity(); })) all.push_back(p);
  });
  return all;
}
// The rows of sequence i of a packed batch.
template <class T>
Tensor<T> part(const Tensor<T>& packed, const std::vector<std::int64_t>& lengths, std::size_t which) {
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < which; i++) begin += lengths[i];
  return packed.row_range(begin, begin + lengths[which]);
}

}  // namespace

TEST_CASE("gradients of a whole model", "[nn][gradcheck]") {
  const std::vector<std::int64_t> lengths = {4, 1, 3};
  for (const TinyShape& shape : {TinyShape{}, TinyShape{.kv_heads = 2, .biases = true, .gated = false}, TinyShape{.layers = 1, .tied = true, .window = 2}}) {
    auto model = tiny_transformer<double>(shape);
    const auto parameters = train_everything(model);
    const auto ids = random_ids(8, shape.vocab), labels = random_labels(8, shape.vocab);
    for (const bool checkpointing : {false, true}) {
      CAPTURE(shape.biases, shape.tied, checkpointing);
      Pass<double> pass = pass_over<double>(lengths);
      pass.checkpointing = checkpointing;
      const PassScope<double> scope(pass);
      CHECK(gradcheck([&](const Variables&) { return model.loss(model.hidden_states(ids), labels); }, {}, parameters));
    }
  }
}

TEST_CASE("checkpointing changes no bit of losses and gradients", "[nn]") {
  auto model = tiny_transformer<float>({.vocab = 50, .hidden = 32, .layers = 3, .heads = 4, .kv_heads = 2, .inner = 48});
  const auto parameters = train_everything(model);
  // Adapters that drop: the masks must be the same when the block runs again.
  Random random(3);
  const LoraConfig config{.r = 4, .target_modules = {"q_proj", "down_proj"}, .lora_dropout = 0.3, .init_lora_weights = false};
  AttachContext context;
  for_each_site(model, [&]<class S>(const std::string& path, S& site) {
    context.path = path;
    if constexpr (std::same_as<S, Linear<float>>) attach_adapter(config, site, context);
  });
  const std::vector<std::int64_t> lengths = {20, 9};
  const auto ids = random_ids(29, 50), labels = random_labels(29, 50);
  const auto run = [&](bool checkpointing, std::int64_t& held) {
    Pass<float> pass = pass_over<float>(lengths);
    pass.training = true, pass.checkpointing = checkpointing, pass.seed = 5;
    const PassScope<float> scope(pass);
    Tape tape;
    const std::int64_t before = memory::statistics().in_use;
    const Variable<float> loss = model.loss(model.hidden_states(ids), labels);
    held = memory::statistics().in_use - before;
    tape.backward(loss);
    std::vector<Tensor<float>> all = {loss.value()};
    for (const auto& p : parameters) all.push_back(p.gradient().take());
    for_each_site(model, [&](const std::string&, auto& site) {
      site.adapters.for_each_parameter(0, [&](const std::string&, Parameter<float>& p) { all.push_back(p.gradient().take()); });
    });
    return all;
  };
  std::int64_t held_plain = 0, held_saving = 0;
  const auto plain = run(false, held_plain), saving = run(true, held_saving);
  REQUIRE(plain.size() == saving.size());
  CHECK(plain.size() == 1 + parameters.size() + 3 * 2 * 2);
  for (std::size_t i = 0; i < plain.size(); i++) {
    CAPTURE(i);
    REQUIRE(plain[i]);
    CHECK(same_bits(plain[i], saving[i]));
  }
  CHECK(held_saving < held_plain / 2);
}

TEST_CASE("a sequence gets the same bits in any batch, on any number of threads", "[nn]") {
  const TinyShape shape{.vocab = 50, .hidden = 96, .layers = 2, .heads = 6, .kv_heads = 2, .inner = 160};
  const auto model = tiny_transformer<float>(shape);
  const std::vector<std::int64_t> lengths = {5, 70, 1, 130};
  std::vector<std::vector<std::int32_t>> sequences;
  std::vector<Tensor<float>> alone;
  for (std::size_t i = 0; i < lengths.size(); i++) {
    sequences.push_back(random_ids(lengths[i], shape.vocab, i));
    alone.push_back(hidden_states(model, sequences[i], pass_over<float>({lengths[i]})));
  }
  for (const std::vector<std::size_t>& order : {std::vector<std::size_t>{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 1, 0}})
    for (const int threads : {1, 2, 7}) {
      const Threads guard(threads);
      std::vector<std::int32_t> ids;
      std::vector<std::int64_t> packed;
      for (std::size_t i : order) ids.insert(ids.end(), sequences[i].begin(), sequences[i].end()), packed.push_back(lengths[i]);
      const Tensor<float> all = hidden_states(model, ids, pass_over<float>(packed));
      for (std::size_t i = 0; i < order.size(); i++) {
        CAPTURE(threads, i, order[i]);
        CHECK(same_bits(part(all, packed, i), alone[order[i]]));
      }
    }
}

TEST_CASE("gradients that one sequence alone makes are the same bits in any batch", "[nn]") {
  const TinyShape shape{.vocab = 60, .hidden = 48, .layers = 2, .heads = 4, .kv_heads = 2, .inner = 80};
  auto model = tiny_transformer<float>(shape);
  model.embed_tokens.weight.set_requires_grad(true);
  const std::vector<std::int64_t> lengths = {7, 12};
  std::vector<std::int32_t> first = random_ids(7, 30), second = random_ids(12, 30, 9), labels = random_labels(19, 60);
  for (auto& id : second) id += 30;  // rows of the embedding that the first does not have
  std::vector<std::int32_t> both = first;
  both.insert(both.end(), second.begin(), second.end());
  const auto gradient = [&](std::span<const std::int32_t> ids, std::span<const std::int32_t> targets, const std::vector<std::int64_t>& packed) {
    const Pass<float> pass = pass_over<float>(packed);
    const PassScope<float> scope(pass);
    Tape tape;
    tape.backward(model.loss(model.hidden_states(ids), targets, 10));
    return model.embed_tokens.weight.gradient().take();
  };
  const std::span<const std::int32_t> all_labels = labels;
  const Tensor<float> packed = gradient(both, labels, lengths), a = gradient(first, all_labels.first(7), {7}), b = gradient(second, all_labels.last(12), {12});
  CHECK(same_bits(packed.row_range(0, 30), a.row_range(0, 30)));
  CHECK(same_bits(packed.row_range(30, 60), b.row_range(30, 60)));
}

TEST_CASE("decoding with a cache gives what the whole forward gives, to the bit", "[nn]") {
  for (const std::int64_t window : {0, 6}) {
    const TinyShape shape{.vocab = 50, .hidden = 48, .layers = 2, .heads = 6, .kv_heads = 2, .inner = 64, .window = window};
    const auto model = tiny_transformer<float>(shape);
    const std::int64_t kv_width = 16;
    const auto ids = random_ids(90, shape.vocab);
    const Tensor<float> whole = hidden_states(model, ids, pass_over<float>({90}));
    for (const std::vector<std::int64_t>& steps : {std::vector<std::int64_t>{10, 1, 1, 1, 77}, {90}, {1, 63, 1, 25}}) {
      KvCache<float> cache(shape.layers, kv_width, 4);
      std::int64_t row = 0;
      for (std::int64_t n : steps) {
        std::vector<Sequence, PoolAllocator<Sequence>> one(1);
        one[0].end = n, one[0].first_position = row;
        Pass<float> pass;
        pass.sequences = std::make_shared<const Sequences>(one), pass.caches = {&cache};
        const Tensor<float> step = hidden_states(model, std::span(ids).subspan(std::size_t(row), std::size_t(n)), pass);
        CAPTURE(window, row, n);
        CHECK(same_bits(step, whole.row_range(row, row + n)));
        row += n;
        CHECK(cache.length() == row);
      }
    }
  }
}

TEST_CASE("several sequences decode together as each would alone", "[nn]") {
  const TinyShape shape{.vocab = 50, .hidden = 48, .layers = 2, .heads = 6, .kv_heads = 2, .inner = 64};
  const auto model = tiny_transformer<float>(shape);
  const std::vector<std::int64_t> lengths = {9, 3, 6};
  std::vector<std::vector<std::int32_t>> sequences;
  std::vector<Tensor<float>> alone;
  std::vector<std::int32_t> prompt;
  std::vector<KvCache<float>> caches(3, KvCache<float>(shape.layers, 16));
  Pass<float> pass;
  std::vector<Sequence, PoolAllocator<Sequence>> layout;
  for (std::size_t i = 0; i < 3; i++) {
    sequences.push_back(random_ids(lengths[i] + 4, shape.vocab, i));
    alone.push_back(hidden_states(model, sequences[i], pass_over<float>({lengths[i] + 4})));
    Sequence s;
    s.begin = std::int64_t(prompt.size()), s.end = s.begin + lengths[i];
    layout.push_back(s);
    prompt.insert(prompt.end(), sequences[i].begin(), sequences[i].begin() + lengths[i]);
    caches[i] = KvCache<float>(shape.layers, 16, 2);
    pass.caches.push_back(&caches[i]);
  }
  pass.sequences = std::make_shared<const Sequences>(layout);
  hidden_states(model, prompt, pass);
  for (std::int64_t step = 0; step < 4; step++) {
    std::vector<std::int32_t> next;
    for (std::size_t i = 0; i < 3; i++) {
      const auto row = std::int64_t(i);
      layout[i].begin = row, layout[i].end = row + 1, layout[i].first_position = lengths[i] + step;
      next.push_back(sequences[i][std::size_t(lengths[i] + step)]);
    }
    pass.sequences = std::make_shared<const Sequences>(layout);
    const Tensor<float> hidden = hidden_states(model, next, pass);
    for (std::size_t i = 0; i < 3; i++)
      CHECK(same_bits(hidden.row_range(std::int64_t(i), std::int64_t(i) + 1), alone[i].row_range(lengths[i] + step, lengths[i] + step + 1)));
  }
}

TEST_CASE("decoding by dots is decoding, to rounding", "[nn]") {
  const auto model = tiny_transformer<float>({.vocab = 50, .hidden = 48, .layers = 2, .heads = 6, .kv_heads = 2, .inner = 64});
  const auto ids = random_ids(12, 50);
  const Tensor<float> panels = hidden_states(model, ids, pass_over<float>({12}));
  const ops::UseKernel guard(ops::Kernel::dot);
  CHECK_THAT(array(hidden_states(model, ids, pass_over<float>({12}))), IsNear(array(panels), 1e-5));
}

TEST_CASE("with an adapter on the head the loss runs by tiles and is the same", "[nn]") {
  const TinyShape shape{.vocab = 37, .hidden = 16, .layers = 1, .heads = 2, .kv_heads = 1, .inner = 24};
  auto model = tiny_transformer<double>(shape);
  model.embed_tokens.weight.set_requires_grad(true);
  Random random(3);
  const LoraConfig config{.r = 4, .target_modules = {"lm_head"}, .init_lora_weights = false};
  AttachContext context;
  context.path = "lm_head";
  REQUIRE(attach_adapter(config, model.lm_head, context));
  const std::vector<std::int64_t> lengths = {150, 3, 47};  // tiles of 64 rows cut two of them
  const auto ids = random_ids(200, shape.vocab);
  for (const double dropout : {0.0, 0.5})
    for (const double denominator : {0.0, 17.0})
      for (const bool gap : {false, true}) {
        CAPTURE(dropout, denominator, gap);
        auto labels = random_labels(200, shape.vocab);
        if (gap) std::fill(labels.begin() + 60, labels.begin() + 140, ignore_index);  // a tile without a label
        model.lm_head.adapters.detach(0);
        LoraConfig dropping = config;
        dropping.lora_dropout = dropout;
        attach_adapter(dropping, model.lm_head, context);
        const auto run = [&](bool tiled) {
          Pass<double> pass = pass_over<double>(lengths);
          pass.training = true, pass.seed = 8;
          const PassScope<double> scope(pass);
          Tape tape;
          const auto hidden = model.hidden_states(ids);
          const auto loss = tiled ? model.loss(hidden, labels, denominator) : cross_entropy(model.logits(hidden), labels, denominator);
          tape.backward(loss);
          std::vector<Tensor<double>> all = {loss.value(), model.embed_tokens.weight.gradient().take()};
          model.lm_head.adapters.for_each_parameter(0, [&](const std::string&, Parameter<double>& p) { all.push_back(p.gradient().take()); });
          return all;
        };
        const auto tiled = run(true), whole = run(false);
        REQUIRE(tiled.size() == 4);
        for (std::size_t i = 0; i < 4; i++) CHECK_THAT(array(tiled[i]), IsNear(array(whole[i]), 1e-12));
      }
}

TEST_CASE("a head with an adapter that is not active takes the fused path", "[nn]") {
  auto model = tiny_transformer<double>({.layers = 1});
  const LoraConfig config{.r = 4, .target_modules = {"lm_head"}, .init_lora_weights = false};
  AttachContext context;
  context.path = "lm_head";
  const auto ids = random_ids(6, 11), labels = random_labels(6, 11);
  Pass<double> pass = pass_over<double>({6});
  pass.lists = std::make_shared<const std::vector<Active>>(1);
  const PassScope<double> scope(pass);
  const double before = model.loss(model.hidden_states(ids), labels).value()[0];
  attach_adapter(config, model.lm_head, context);
  CHECK_FALSE(model.lm_head.adapters.engaged());
  CHECK(model.loss(model.hidden_states(ids), labels).value()[0] == before);
}

TEST_CASE("a forward without its surroundings says what is missing", "[nn]") {
  const auto model = tiny_transformer<double>();
  const auto ids = random_ids(5, 11);
  CHECK_THROWS_WITH(model.hidden_states(ids), Catch::Contains("no Pass") && Catch::Contains("PassScope"));
  const Pass<double> pass = pass_over<double>({3});
  const PassScope<double> scope(pass);
  CHECK_THROWS_WITH(model.hidden_states(ids), "[transformer] 5 ids for sequences of 3 rows");
  const std::vector<std::int32_t> outside = {1, 2, 11};
  CHECK_THROWS_AS(model.hidden_states(outside), ShapeError);
}
