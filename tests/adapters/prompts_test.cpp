// SPDX-License-Identifier: Apache-2.0
// Methods that are more than the sum of Linears, on a transformer small enough for differences: prompts, prefixes, norms, tokens, embeddings.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "peft/adapters/peft_model.hpp"
#include "peft/adapters/registry.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "support/tiny_encoder_decoder.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

using TunedDouble = PeftModel<Transformer<double>>;

struct Fed {
  std::vector<std::int32_t> ids, targets;
  std::shared_ptr<const Sequences> sequences;
};
std::shared_ptr<const Sequences> sequences_of(const std::vector<std::int64_t>& sizes, const std::vector<int>& tasks) {
  std::vector<Sequence, PoolAllocator<Sequence>> all;
  std::int64_t n = 0;
  for (std::size_t i = 0; i < sizes.size(); i++) {
    Sequence s;
    s.begin = n, s.end = n += sizes[i], s.id = i, s.task = tasks.empty() ? 0 : tasks[i];
    all.push_back(s);
  }
  return std::make_shared<Sequences>(std::move(all));
}
Fed fed_to(const TunedDouble& tuned, const std::vector<std::int64_t>& sizes, Pass<double>& pass, const std::vector<int>& tasks = {}) {
  const auto sequences = sequences_of(sizes, tasks);
  Fed fed{random_ids(sequences->rows(), 11), random_labels(sequences->rows(), 11), sequences};
  pass = tuned.pass();
  const FrontedRows rows = with_fronts(pass.fronts, *fed.sequences, fed.ids, fed.targets);
  pass.sequences = rows.sequences;
  return {rows.ids, {rows.targets.begin(), rows.targets.end()}, rows.sequences};
}
Variable<double> loss_of_tuned(const TunedDouble& tuned, const std::vector<int>& tasks = {}) {
  Pass<double> pass;
  const Fed fed = fed_to(tuned, {4, 3}, pass, tasks);
  if (!tuned.model().encoder_layers.empty()) tuned.model().encode(pass, sequences_of({2, 5}, tasks), random_ids(7, 11, 5));
  const PassScope<double> scope(pass);
  return tuned.model().loss(tuned.model().hidden_states(fed.ids), fed.targets);
}
std::vector<Parameter<double>> parameters_of(const TunedDouble& tuned) {
  std::vector<Parameter<double>> all;
  tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) {
    const bool seen = std::ranges::any_of(all, [&](const auto& other) { return other.identity() == p.identity(); });  // one tensor at two sites
    if (p.requires_grad() && !seen) all.push_back(p);
  });
  return all;
}
template <class Config>
void check_gradients_on(Transformer<double> base, const Config& config, const std::vector<int>& tasks = {}) {
  TunedDouble tuned{base};
  tuned.add_adapter("a", config, 5);
  const auto parameters = parameters_of(tuned);
  REQUIRE(!parameters.empty());
  for (const auto& p : parameters)  // what begins at a neutral value shows nothing
    for (std::int64_t i = 0; i < p.size(); i++) p.value()[i] += 0.1 * std::sin(double(i + 1));
  for (const auto& p : parameters) p.touch();
  CHECK(gradcheck([&](const Variables&) { return loss_of_tuned(tuned, tasks); }, {}, parameters));
}
template <class Config>
void check_gradients(const Config& config, const std::vector<int>& tasks = {}, const TinyShape& shape = {}) {
  check_gradients_on(tiny_transformer<double>(shape), config, tasks);
}
// Of sources and what is decoded from them, as they are, under the adapters' pass or under none of theirs.
Tensor<double> decoded(const Transformer<double>& model, Pass<double> pass, std::span<const std::int32_t> source, std::span<const std::int32_t> targets) {
  pass.sequences = Sequences::of_lengths(std::vector<std::int64_t>{std::int64_t(targets.size())});
  model.encode(pass, Sequences::of_lengths(std::vector<std::int64_t>{std::int64_t(source.size())}), source);
  return hidden_states(model, targets, pass);
}

}  // namespace

TEST_CASE("gradients of prompts, prefixes and their encoders", "[adapters][gradcheck]") {
  check_gradients(PrefixTuningConfig{.num_virtual_tokens = 3});
  check_gradients(PrefixTuningConfig{.num_virtual_tokens = 3, .encoder_hidden_size = 5, .prefix_projection = true});
  check_gradients(PromptTuningConfig{.num_virtual_tokens = 3});
  check_gradients(PromptEncoderConfig{.num_virtual_tokens = 3, .encoder_reparameterization_type = "LSTM", .encoder_hidden_size = 3});
  check_gradients(MultitaskPromptTuningConfig{.num_virtual_tokens = 2, .num_ranks = 2, .num_tasks = 3}, {2, 0});
  check_gradients(PromptTuningConfig{.num_virtual_tokens = 3, .modules_to_save = {"lm_head", "norm"}}, {}, {.layers = 1});
}
TEST_CASE("gradients of norms, biases, tokens, embeddings and adaption prompts", "[adapters][gradcheck]") {
  check_gradients(LNTuningConfig{});
  check_gradients(LNTuningConfig{}, {}, {.biases = true});
  check_gradients(BitFitConfig{}, {}, {.biases = true});
  check_gradients(TrainableTokensConfig{.token_indices = {2, 5, 7}}, {}, {.tied = true});
  check_gradients(LoraConfig{.r = 2, .target_modules = {"embed_tokens", "q_proj"}, .init_lora_weights = false}, {}, {.layers = 1});
  check_gradients(LoraConfig{.r = 1, .target_modules = {"q_proj"}, .init_lora_weights = false, .trainable_token_indices = {{"", {1, 3}}}}, {},
                  {.layers = 1, .tied = true});
  check_gradients(LoraConfig{.r = 1, .target_modules = {"q_proj"}, .init_lora_weights = false, .modules_to_save = {"lm_head"}}, {}, {.layers = 1});
  check_gradients(AdaptionPromptConfig{.adapter_len = 3, .adapter_layers = 1});
}

TEST_CASE("P-Tuning's LSTM drops between its layers, by the pass that trains", "[adapters][gradcheck]") {
  auto base = tiny_transformer<double>();
  TunedDouble tuned{base};
  tuned.add_adapter(
      "a", PromptEncoderConfig{
               .num_virtual_tokens = 3, .encoder_reparameterization_type = "LSTM", .encoder_hidden_size = 5, .encoder_num_layers = 2, .encoder_dropout = 0.4});
  const int id = tuned.entry("a").id;
  const auto table = [&](bool training, std::uint64_t forward) {
    Pass<double> pass;
    pass.training = training, pass.seed = 3, pass.forward = forward;
    return tuned.pass(std::move(pass)).prepared_by(id)->value();
  };
  CHECK(same_bits(table(false, 1), table(false, 2)));
  CHECK(same_bits(table(true, 1), table(true, 1)));
  CHECK_FALSE(same_bits(table(true, 1), table(true, 2)));
  CHECK_FALSE(same_bits(table(true, 1), table(false, 1)));
  const auto* part = dynamic_cast<const SharedPartOf<double, PromptEncoder<double>>*>(tuned.entry("a").shared.get());
  REQUIRE(part);
  const auto& layers = part->part.lstm.layers;
  const auto through = [](const auto& layer, const Variable<double>& x) { return concat_columns<double>({layer.forward(x, false), layer.backward(x, true)}); };
  Tensor<double> between = through(layers[0], part->part.embedding.variable()).value().clone();
  const DropoutKey key{mix(mix(3, 1), mix(name_hash("prompt_encoder.lstm_head"), 1)), 0.4};
  int gone = 0;
  for (std::int64_t i = 0; i < 3; i++)
    for (std::int64_t j = 0; j < 10; j++) {
      const double factor = key.factor<double>(std::uint64_t(i), std::uint64_t(j));
      between(i, j) *= factor, gone += factor == 0;
    }
  CHECK(gone > 2);
  CHECK(gone < 25);
  const Variable<double> h = through(layers[1], Variable<double>(between));
  const Tensor<double> expected = part->part.second(activation(part->part.first(h), Activation::relu)).value();
  CHECK_THAT(array(table(true, 1)), is_near<double>(array(expected), 10));
  CHECK_THROWS_WITH(validate(PromptEncoderConfig{.encoder_dropout = 1}), Contains("encoder_dropout is 1"));
}

TEST_CASE("a virtual token is a row of the prompt where an embedded token would be", "[adapters]") {
  auto base = tiny_transformer<double>();
  TunedDouble tuned{base};
  tuned.add_adapter("a", PromptTuningConfig{.num_virtual_tokens = 3, .prompt_tuning_init = "TEXT", .init_ids = {4, 9}});
  // Begun as the tokens 4, 9, 4, the prompt is these tokens.
  Pass<double> pass;
  const Fed fed = fed_to(tuned, {5}, pass);
  CHECK(fed.ids.size() == 8);
  CHECK(fed.ids[0] == 11);
  const Tensor<double> found = hidden_states(tuned.model(), fed.ids, pass);
  std::vector<std::int32_t> plain = {4, 9, 4};
  plain.insert(plain.end(), fed.ids.begin() + 3, fed.ids.end());
  CHECK(same_bits(found, hidden_states(base, plain, pass_over<double>({8}))));
  for (int i = 0; i < 3; i++) CHECK(fed.targets[std::size_t(i)] == ignore_index);
}

TEST_CASE("a prefix that holds a text's keys and values stands for the text", "[adapters]") {
  // Keys of a prefix have no rotary position of their own: with one layer they are read off a cache, rotated as the text has them.
  auto base = tiny_transformer<double>({.layers = 1});
  TunedDouble tuned{base};
  tuned.add_adapter("a", PrefixTuningConfig{.num_virtual_tokens = 3});
  const auto ids = random_ids(7, 11);
  KvCache<double> cache(1, 4);
  auto whole = pass_over<double>({7});
  whole.caches = {&cache};
  const Tensor<double> expected = hidden_states(base, ids, whole);
  const Tensor<double> P = parameters_of(tuned)[0].value();
  REQUIRE(P.shape() == Shape{3, 8});
  for (std::int64_t v = 0; v < 3; v++)
    for (std::int64_t c = 0; c < 4; c++) P(v, c) = cache.keys(0, 7)(v, c), P(v, 4 + c) = cache.values(0, 7)(v, c);
  Pass<double> pass = tuned.pass();
  const auto sequences = Sequences::of_lengths(std::vector<std::int64_t>{4});
  const std::vector<std::int32_t> rest(ids.begin() + 3, ids.end());
  const FrontedRows rows = with_fronts(pass.fronts, *sequences, rest);
  CHECK((*rows.sequences)[0].first_position == 3);
  pass.sequences = rows.sequences;
  CHECK_THAT(array(hidden_states(tuned.model(), rows.ids, pass)), is_near<double>(array(expected.row_range(3, 7)), 50));
}

TEST_CASE("what stands in front of sequences is not merged, and there is one of it", "[adapters]") {
  auto base = tiny_transformer<double>();
  TunedDouble tuned{base};
  tuned.add_adapter("a", PromptTuningConfig{.num_virtual_tokens = 3});
  tuned.add_adapter("b", PromptEncoderConfig{.num_virtual_tokens = 2});
  tuned.add_adapter("c", PrefixTuningConfig{.num_virtual_tokens = 2});
  CHECK_THROWS_WITH(tuned.merge_adapter(), Contains("\"a\" (PROMPT_TUNING) puts something in front of sequences"));
  tuned.set_adapter(std::vector<std::string>{"a", "b"});
  CHECK_THROWS_WITH(tuned.pass(), Contains("two active adapters both give a sequence virtual tokens"));
  tuned.set_adapter(std::vector<std::string>{"a", "c"});  // a prompt behind a prefix
  CHECK(tuned.pass().fronts[0].tokens == 3);
  CHECK(tuned.pass().fronts[0].past == 2);
  CHECK_THROWS_WITH(tuned.add_adapter("d", PromptTuningConfig{.token_dim = 9}), Contains("token_dim is 9, this model's is 8"));
  CHECK_THROWS_WITH(validate(PromptTuningConfig{.num_virtual_tokens = 0}), Contains("num_virtual_tokens is 0"));
  CHECK_THROWS_WITH(validate(PromptTuningConfig{.prompt_tuning_init = "WORDS"}), Contains("prompt_tuning_init \"WORDS\""));
  CHECK_THROWS_WITH(validate(PromptEncoderConfig{.encoder_reparameterization_type = "GRU"}), Contains("encoder_reparameterization_type \"GRU\""));
  CHECK_THROWS_WITH(validate(PrefixTuningConfig{.init_weights = "ones"}), Contains("init_weights \"ones\""));
}

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

TEST_CASE("modules_to_save names modules by the end of their paths, and the head of a task by itself", "[adapters]") {
  CHECK(is_named({"classifier"}, "pre_classifier"));
  CHECK(is_named({"classifier"}, "classifier.out_proj"));
  CHECK(is_named({"pooler.dense"}, "bert.pooler.dense"));
  CHECK_FALSE(is_named({"classifier", ""}, "bert.pooler.dense"));
  CHECK_FALSE(is_named({"classifier"}, "classifiers.dense"));
  const auto saved = [](std::vector<std::string> names, const char* task, const std::vector<std::string>& paths) {
    detail::save_head_of_task(names, task, paths);
    return names;
  };
  using Names = std::vector<std::string>;
  CHECK(saved({}, "SEQ_CLS", {"model.norm", "score"}) == Names{"classifier", "score"});
  CHECK(saved({"norm", "score"}, "TOKEN_CLS", {"model.norm", "score"}) == Names{"norm", "score", "classifier"});
  CHECK(saved({"classifier", "score", "classifier", "score"}, "SEQ_CLS", {"classifier"}).size() == 4);  // as PEFT writes it
  CHECK(saved({}, "QUESTION_ANS", {"qa_outputs"}) == Names{"qa_outputs"});
  CHECK(saved({}, "SEQ_CLS", {"lm_head"}).empty());
  CHECK(saved({}, "CAUSAL_LM", {"score"}).empty());
  auto base = tiny_transformer<double>();
  TunedDouble tuned{base};
  CHECK_THROWS_WITH(tuned.add_adapter("a", PromptTuningConfig{.modules_to_save = {"embed_tokens"}}),
                    Contains("the input embedding, together with virtual tokens"));
  tuned.add_adapter("a", PrefixTuningConfig{.num_virtual_tokens = 2, .modules_to_save = {"embed_tokens"}});
}

TEST_CASE("a task that a prompt does not have is refused", "[adapters]") {
  auto base = tiny_transformer<double>();
  TunedDouble tuned{base};
  tuned.add_adapter("a", MultitaskPromptTuningConfig{.num_virtual_tokens = 2, .num_tasks = 2});
  Pass<double> pass;
  CHECK_THROWS_WITH(fed_to(tuned, {3, 3}, pass, {0, 2}), Contains("a sequence of task 2; the adapter has tasks 0 to 1"));
}

TEST_CASE("trained tokens answer at the embedding and at a tied head with the same rows, and stay when merged", "[adapters]") {
  auto base = tiny_transformer<double>({.tied = true});
  TunedDouble tuned{base};
  tuned.add_adapter("a", TrainableTokensConfig{.token_indices = {2, 5}});
  const Parameter<double> rows = parameters_of(tuned)[0];
  rows.assign(normal({2, 8}, 6));
  CHECK(tuned.count_parameters().trainable == 16);  // counted once
  auto changed = base;
  changed.embed_tokens.weight = Parameter<double>(base.embed_tokens.weight.dense());
  for (std::int64_t c = 0; c < 8; c++)
    changed.embed_tokens.weight.value()(2, c) = rows.value()(0, c), changed.embed_tokens.weight.value()(5, c) = rows.value()(1, c);
  changed.lm_head.weight = changed.embed_tokens.weight;
  const std::vector<std::int32_t> ids = {2, 1, 5, 2};
  const auto logits_with = [&](const Transformer<double>& model, const Pass<double>& pass) {
    const PassScope<double> scope(pass);
    return model.logits(model.hidden_states(ids)).value();
  };
  auto pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{4}));
  const Array expected = array(logits_with(changed, pass_over<double>({4})));
  CHECK_THAT(array(logits_with(tuned.model(), pass)), is_near<double>(expected, 50));
  auto merged = tuned.merge_and_unload();
  CHECK_THAT(array(logits_with(merged, pass_over<double>({4}))), is_near<double>(expected, 50));
  CHECK_THROWS_WITH(tuned.add_adapter("b", TrainableTokensConfig{.token_indices = {11}}), Contains("token 11; the embedding has tokens 0 to 10"));
  CHECK_THROWS_WITH(tuned.add_adapter("b", TrainableTokensConfig{.token_indices = {1, 1}}), Contains("token 1 is named twice"));
  CHECK_THROWS_WITH(tuned.add_adapter("b", TrainableTokensConfig{}), Contains("token_indices is empty"));
}

TEST_CASE("tuned norms and saved modules replace the base's, and merge exactly", "[adapters]") {
  auto base = tiny_transformer<double>();
  for (const bool norms : {true, false}) {
    TunedDouble tuned{base};
    if (norms)
      tuned.add_adapter("a", LNTuningConfig{.target_modules = {"input_layernorm"}});
    else
      tuned.add_adapter("a", LoraConfig{.target_modules = {"q_proj"}, .modules_to_save = {"mlp"}});
    const auto ids = random_ids(5, 11);
    const auto pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{5}));
    CHECK(same_bits(hidden_states(tuned.model(), ids, pass), hidden_states(base, ids, pass_over<double>({5}))));  // copies
    for (const auto& p : parameters_of(tuned))
      for (double& value : p.value().span()) value *= 1.5;
    const Tensor<double> changed = hidden_states(tuned.model(), ids, pass);
    CHECK_FALSE(same_bits(changed, hidden_states(base, ids, pass_over<double>({5}))));
    auto merged = tuned.merge_and_unload();
    CHECK(same_bits(hidden_states(merged, ids, pass_over<double>({5})), changed));
  }
  TunedDouble tuned{base};
  CHECK_THROWS_WITH(tuned.add_adapter("a", LoraConfig{.target_modules = {"q_proj"}, .modules_to_save = {"lm_haed"}}),
                    Contains("\"lm_haed\" is no module of this model") && Contains("lm_head"));
  CHECK_THROWS_WITH(tuned.add_adapter("a", LNTuningConfig{.target_modules = {"ln_1"}}), Contains("target_modules \"ln_1\" matches no Norm of this model"));
  CHECK_THROWS_WITH(tuned.add_adapter("a", BitFitConfig{}), Contains("no module with a bias"));
}

TEST_CASE("an adaption prompt adds what its own softmax finds, behind a gate", "[adapters]") {
  auto base = tiny_transformer<double>({.layers = 1});
  TunedDouble tuned{base};
  tuned.add_adapter("a", AdaptionPromptConfig{.adapter_len = 3, .adapter_layers = 1});
  const auto ids = random_ids(5, 11);
  const auto pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{5}));
  CHECK(same_bits(hidden_states(tuned.model(), ids, pass), hidden_states(base, ids, pass_over<double>({5}))));  // the gate is 0
  CHECK_THROWS_WITH(tuned.merge_adapter(), Contains("is no change of a weight"));
  CHECK_THROWS_WITH(tuned.add_adapter("b", AdaptionPromptConfig{.adapter_layers = 2}), Contains("adapter_layers is 2; the model has 1"));
  std::vector<std::string> names;
  tuned.for_each_adapter_parameter("a", [&](const std::string& name, const auto&) { names.push_back(name); });
  CHECK(names == std::vector<std::string>{"model.layers.0.self_attn.adaption_gate", "model.layers.0.self_attn.adaption_prompt"});
}

TEST_CASE("GPT-2's adaption prompt is added behind the output projection; other attention with one Linear for q, k and v has none", "[adapters][gradcheck]") {
  auto base = tiny_transformer<double>({.layers = 1, .kv_heads = 2});
  Attention<double>& attention = base.layers[0].self_attn;
  Tensor<double> fused({24, 8});
  std::int64_t row = 0;
  for (const Linear<double>* part : {&attention.q_proj, &attention.k_proj, &attention.v_proj}) {
    ops::copy<double>(fused.view().row_range(row, row + 8), part->weight.value().view());
    row += 8;
  }
  attention.qkv_proj = Linear<double>(Parameter<double>(std::move(fused)), {}, "model.layers.0.self_attn.c_attn");
  const AdaptionPromptConfig config{.adapter_len = 3, .adapter_layers = 1, .target_modules = {"self_attn"}};
  TunedDouble other{base};
  CHECK_THROWS_WITH(other.add_adapter("a", config), Contains("whose q, k and v are one Linear, model.layers.0.self_attn.c_attn"));
  CHECK(other.adapter_names().empty());

  base.config.model_type = "gpt2";
  TunedDouble tuned{base};
  tuned.add_adapter("a", config);
  const auto ids = random_ids(5, 11);
  const auto pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{5}));
  CHECK(same_bits(hidden_states(tuned.model(), ids, pass), hidden_states(base, ids, pass_over<double>({5}))));  // the gate is 0
  const auto parameters = parameters_of(tuned);
  REQUIRE(parameters.size() == 2);
  parameters[0].assign(Tensor<double>({1}, 0.7));
  CHECK(gradcheck([&](const Variables&) { return loss_of_tuned(tuned); }, {}, parameters));
  CHECK(resolved(AdaptionPromptConfig{}, "gpt2").target_modules == TargetModules("attn"));
}
