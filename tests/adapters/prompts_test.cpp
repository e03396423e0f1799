// SPDX-License-Identifier: Apache-2.0
// Prompts and prefixes in front of what a decoder reads.
#include "adapters/tuned_transformer.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

TEST_CASE("gradients of prompts, prefixes and their encoders", "[adapters][gradcheck]") {
  check_gradients(PrefixTuningConfig{.num_virtual_tokens = 3});
  check_gradients(PrefixTuningConfig{.num_virtual_tokens = 3, .encoder_hidden_size = 5, .prefix_projection = true});
  check_gradients(PromptTuningConfig{.num_virtual_tokens = 3});
  check_gradients(PromptEncoderConfig{.num_virtual_tokens = 3, .encoder_reparameterization_type = "LSTM", .encoder_hidden_size = 3});
  check_gradients(MultitaskPromptTuningConfig{.num_virtual_tokens = 2, .num_ranks = 2, .num_tasks = 3}, {2, 0});
  check_gradients(PromptTuningConfig{.num_virtual_tokens = 3, .modules_to_save = {"lm_head", "norm"}}, {}, {.layers = 1});
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
  CHECK_THROWS_WITH(tuned.add_adapter("b", PromptTuningConfig{.prompt_tuning_init = "TEXT"}), Contains("\"TEXT\" without init_ids"));
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

TEST_CASE("a task that a prompt does not have is refused", "[adapters]") {
  auto base = tiny_transformer<double>();
  TunedDouble tuned{base};
  tuned.add_adapter("a", MultitaskPromptTuningConfig{.num_virtual_tokens = 2, .num_tasks = 2});
  Pass<double> pass;
  CHECK_THROWS_WITH(fed_to(tuned, {3, 3}, pass, {0, 2}), Contains("a sequence of task 2; the adapter has tasks 0 to 1"));
}
