// SPDX-License-Identifier: Apache-2.0
// Prompts and prefixes of an encoder-decoder.
#include "adapters/tuned_transformer.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

TEST_CASE("gradients of prompts and prefixes of an encoder-decoder", "[adapters][gradcheck]") {
  const auto base = tiny_encoder_decoder<double>({.layers = 3}, 1);
  check_gradients_on(base, PrefixTuningConfig{.num_virtual_tokens = 2});
  check_gradients_on(base, PrefixTuningConfig{.num_virtual_tokens = 2, .encoder_hidden_size = 3, .prefix_projection = true});
  check_gradients_on(base, PromptTuningConfig{.num_virtual_tokens = 2});
  check_gradients_on(base, PromptEncoderConfig{.num_virtual_tokens = 2, .encoder_reparameterization_type = "LSTM", .encoder_hidden_size = 2});
  check_gradients_on(base, MultitaskPromptTuningConfig{.num_virtual_tokens = 2, .num_ranks = 2, .num_tasks = 3}, {2, 0});
}

TEST_CASE("of an encoder-decoder, a prompt's first rows are tokens of the source", "[adapters]") {
  auto base = tiny_encoder_decoder<double>();
  const std::vector<std::int32_t> source = random_ids(5, 11), ids = random_ids(4, 11, 5);
  std::vector<std::int32_t> prompted = {4, 9, 7};
  prompted.insert(prompted.end(), source.begin(), source.end());
  const Tensor<double> expected = decoded(base, {}, prompted, ids);
  for (const std::int64_t submodules : {2, 1}) {
    TunedDouble tuned{base};
    PromptTuningConfig config{.num_virtual_tokens = 3, .prompt_tuning_init = "TEXT", .init_ids = {4, 9, 7, 1, 2}, .num_transformer_submodules = submodules};
    config.task_type = "SEQ_2_SEQ_LM";
    tuned.add_adapter("a", config);
    const Tensor<double> rows = parameters_of(tuned)[0].value();
    CHECK(rows.shape() == Shape{3 * submodules, 8});
    if (submodules == 2) CHECK(same_bits(rows.row_range(3, 5), base.embed_tokens.weight.value().row_range(1, 3)));  // the text goes on
    CHECK(tuned.pass().fronts.empty());
    CHECK(same_bits(decoded(tuned.model(), tuned.pass(), source, ids), expected));
    CHECK_THROWS_WITH(tuned.merge_adapter(), Contains("\"a\" (PROMPT_TUNING) puts something in front of sequences"));
    tuned.set_adapter(std::vector<std::string>{});
    CHECK(same_bits(decoded(tuned.model(), tuned.pass(), source, ids), decoded(base, {}, source, ids)));
  }
}

TEST_CASE("of an encoder-decoder, each source has what its own active list puts in front", "[adapters]") {
  auto base = tiny_encoder_decoder<double>();
  TunedDouble tuned{base};
  tuned.add_adapter("a", PromptTuningConfig{.num_virtual_tokens = 3});
  tuned.add_adapter("b", PrefixTuningConfig{.num_virtual_tokens = 2});
  const Active prompt = tuned.active();
  tuned.set_adapter("b");
  const auto lists = std::make_shared<const std::vector<Active>>(std::vector<Active>{{}, prompt, tuned.active()});
  const auto with_lists = [](std::vector<std::int64_t> sizes) {
    std::vector<Sequence, PoolAllocator<Sequence>> all;
    for (std::size_t i = 0; i < sizes.size(); i++) {
      Sequence s;
      s.begin = all.empty() ? 0 : all.back().end, s.end = s.begin + sizes[i], s.id = i, s.active = int(i);
      all.push_back(s);
    }
    return std::make_shared<const Sequences>(std::move(all));
  };
  Pass<double> pass = tuned.pass(nullptr, false, lists);
  const std::vector<std::int32_t> source = random_ids(9, 11), targets = random_ids(6, 11, 5);
  const FrontedRows rows = with_fronts(pass.fronts, *with_lists({1, 2, 3}), targets);
  pass.sequences = rows.sequences;
  tuned.model().encode(pass, with_lists({4, 3, 2}), source);
  CHECK((*pass.source_sequences)[1].length() == 6);
  CHECK(pass.source_sequences->rows() == 12);
  const Tensor<double> together = hidden_states(tuned.model(), rows.ids, pass);
  const auto alone = [&](const std::string& name, std::size_t from, std::size_t n, std::size_t first, std::size_t length) {
    tuned.set_adapter(name.empty() ? std::vector<std::string>{} : std::vector<std::string>{name});
    Pass<double> own = tuned.pass();
    const FrontedRows front = with_fronts(own.fronts, *sequences_of({std::int64_t(length)}, {}), std::span(targets).subspan(first, length));
    own.sequences = front.sequences;
    tuned.model().encode(own, sequences_of({std::int64_t(n)}, {}), std::span(source).subspan(from, n));
    return same_bits(hidden_states(tuned.model(), front.ids, own), together.row_range(std::int64_t(first), std::int64_t(first + length)));
  };
  CHECK(alone("", 0, 4, 0, 1));
  CHECK(alone("a", 4, 3, 1, 2));
  CHECK(alone("b", 7, 2, 3, 3));
}

TEST_CASE("of an encoder-decoder, a multitask prompt stands on both sides", "[adapters]") {
  auto base = tiny_encoder_decoder<double>();
  TunedDouble tuned{base};
  tuned.add_adapter("a", MultitaskPromptTuningConfig{.num_virtual_tokens = 2, .num_tasks = 3});
  // P of tokens; their factors are 1 for task 1.
  const std::vector<std::int32_t> tokens = {4, 9, 7, 3};
  tuned.for_each_adapter_parameter("a", [&](const std::string& name, Parameter<double>& p) {
    if (name == "prompt_embeddings") {
      CHECK(p.shape() == Shape{4, 8});
      ops::embedding_forward<double>(p.value().view(), tokens, base.embed_tokens.weight.view());
    } else {
      CHECK(p.shape() == (name == "prefix_task_cols" ? Shape{3, 4, 1} : Shape{3, 1, 8}));
      const std::int64_t one = p.size() / 3;
      for (std::int64_t i = one; i < 2 * one; i++) p.value()[i] = 1;
    }
    p.touch();
  });
  const std::vector<std::int32_t> source = random_ids(5, 11), ids = random_ids(4, 11, 5);
  std::vector<std::int32_t> prompted_source = {4, 9}, prompted = {7, 3};
  prompted_source.insert(prompted_source.end(), source.begin(), source.end()), prompted.insert(prompted.end(), ids.begin(), ids.end());
  Pass<double> pass = tuned.pass();
  const FrontedRows rows = with_fronts(pass.fronts, *sequences_of({4}, {1}), ids);
  pass.sequences = rows.sequences;
  tuned.model().encode(pass, sequences_of({5}, {1}), source);
  CHECK(pass.source_sequences->rows() == 7);
  CHECK(same_bits(hidden_states(tuned.model(), rows.ids, pass), decoded(base, {}, prompted_source, prompted)));
  CHECK_THROWS_WITH(tuned.model().encode(pass, sequences_of({5}, {3}), source), Contains("a sequence of task 3; the adapter has tasks 0 to 2"));
}

TEST_CASE("of an encoder-decoder, the decoder's layers read every other pair of a prefix", "[adapters]") {
  // Which of P's L pairs, as PEFT deals them out: 2l mod L.
  const std::vector<std::vector<std::int64_t>> expected = {{0}, {0, 0}, {0, 2, 1}, {0, 2, 0, 2}, {0, 2, 4, 1, 3}};
  for (const auto& pairs : expected) {
    const std::int64_t layers = std::int64_t(pairs.size());
    auto base = tiny_encoder_decoder<double>({.layers = layers}, 1);
    TunedDouble tuned{base};
    tuned.add_adapter("a", PrefixTuningConfig{.num_virtual_tokens = 3});
    const Tensor<double> P = parameters_of(tuned)[0].value();
    REQUIRE(P.shape() == Shape{3, 2 * layers * 4});
    const Pass<double> pass = tuned.pass();
    REQUIRE(pass.past[0]->k.size() == pairs.size());
    for (std::size_t l = 0; l < pairs.size(); l++)
      for (std::int64_t c = 0; c < 4; c++) {
        CHECK(pass.past[0]->k[l].value()(2, c) == P(2, 8 * pairs[l] + c));
        CHECK(pass.past[0]->v[l].value()(2, c) == P(2, 8 * pairs[l] + 4 + c));
      }
  }
  // A deeper encoder counts for L, as in PEFT; so may a larger number.
  auto base = tiny_encoder_decoder<double>({.layers = 2}, 3);
  TunedDouble tuned{base};
  tuned.add_adapter("a", PrefixTuningConfig{});
  CHECK(std::any_cast<const PrefixTuningConfig&>(tuned.entry("a").config).num_layers == 3);
  tuned.add_adapter("b", PrefixTuningConfig{.num_layers = 5});
  tuned.add_adapter("c", PromptTuningConfig{});
  const auto& prompt = std::any_cast<const PromptTuningConfig&>(tuned.entry("c").config);
  CHECK(prompt.num_layers == 3);
  CHECK(prompt.num_transformer_submodules == 2);
  CHECK(prompt.task_type == "SEQ_2_SEQ_LM");
  CHECK_THROWS_WITH(tuned.add_adapter("d", PrefixTuningConfig{.num_layers = 1}), Contains("num_layers is 1; allowed are 2, the decoder's, to 4096"));
  PrefixTuningConfig one{.num_transformer_submodules = 1, .task_type = "SEQ_2_SEQ_LM"};
  CHECK_THROWS_WITH(tuned.add_adapter("d", one), Contains("num_transformer_submodules is 1") && Contains("only 2 is supported"));
  one.num_transformer_submodules = 3;
  CHECK_THROWS_WITH(tuned.add_adapter("d", one), Contains("num_transformer_submodules is 3; allowed are 1 and 2"));
  one.task_type = "CAUSAL_LM";
  CHECK_THROWS_WITH(tuned.add_adapter("d", one), Contains("task_type \"CAUSAL_LM\" for a model of type \"t5\", an encoder-decoder"));
  auto decoder = tiny_transformer<double>();
  TunedDouble plain{decoder};
  CHECK_THROWS_WITH(plain.add_adapter("d", PromptTuningConfig{.num_transformer_submodules = 2}),
                    Contains("num_transformer_submodules is 2, this model's is 1"));
}

TEST_CASE("of an encoder-decoder, a prefix that holds a text's keys and values stands for the text", "[adapters]") {
  auto base = tiny_encoder_decoder<double>({.layers = 1}, 1);
  TunedDouble tuned{base};
  tuned.add_adapter("a", PrefixTuningConfig{.num_virtual_tokens = 3});
  const auto source = random_ids(5, 11), ids = random_ids(7, 11, 5);
  const Tensor<double> expected = decoded(base, {}, source, ids);
  const Block<double>& block = base.layers[0];
  const Variable<double> x = (*block.input_layernorm)(base.embed_tokens(std::span<const std::int32_t>(ids)));
  const Tensor<double> k = block.self_attn.k_proj(x).value(), values = block.self_attn.v_proj(x).value();
  const Tensor<double> P = parameters_of(tuned)[0].value();
  for (std::int64_t v = 0; v < 3; v++)
    for (std::int64_t c = 0; c < 4; c++) P(v, c) = k(v, c), P(v, 4 + c) = values(v, c);
  Pass<double> pass = tuned.pass();
  const FrontedRows rows = with_fronts(pass.fronts, *sequences_of({4}, {}), std::vector<std::int32_t>(ids.begin() + 3, ids.end()));
  pass.sequences = rows.sequences;
  tuned.model().encode(pass, sequences_of({5}, {}), source);
  CHECK_THAT(array(hidden_states(tuned.model(), rows.ids, pass)), is_near<double>(array(expected.row_range(3, 7)), 50));
}

TEST_CASE("prompts and prefixes of an encoder-decoder learn", "[adapters]") {
  const auto learn = [](const auto& config) {
    CAPTURE(config.peft_type);
    auto base = tiny_encoder_decoder<double>({.layers = 1}, 1);
    TunedDouble tuned{base};
    tuned.add_adapter("a", config);
    std::vector<double> losses;
    for (int step = 0; step < 10; step++) {
      Tape tape;
      const auto loss = loss_of_tuned(tuned);
      losses.push_back(loss.value()[0]);
      tape.backward(loss);
      for (const auto& p : parameters_of(tuned)) {
        for (std::int64_t i = 0; i < p.size(); i++) p.value()[i] -= p.grad()[i];
        p.touch(), p.zero_grad();
      }
    }
    CHECK(losses.back() < losses.front() - 0.01);
  };
  learn(PrefixTuningConfig{.num_virtual_tokens = 3});
  learn(PrefixTuningConfig{.num_virtual_tokens = 3, .prefix_projection = true});
  learn(PromptTuningConfig{.num_virtual_tokens = 3});
  learn(PromptEncoderConfig{.num_virtual_tokens = 3});
  learn(MultitaskPromptTuningConfig{.num_virtual_tokens = 3});
}
