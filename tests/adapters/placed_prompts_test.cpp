// SPDX-License-Identifier: Apache-2.0
// Virtual tokens that stand where a template says.
#include "adapters/tuned_transformer.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

using PlacedModel = PeftModel<Transformer<double>>;
const std::string around = "{prompt:1} {a} {prompt:2} {answer}";

// Hidden states of packed sequences, with virtual tokens (11 is the first of them) or without.
Tensor<double> states(const PlacedModel& tuned, const std::vector<std::vector<std::int32_t>>& rows) {
  std::vector<std::int64_t> sizes;
  std::vector<std::int32_t> tokens;
  for (const auto& row : rows) sizes.push_back(std::int64_t(row.size())), tokens.insert(tokens.end(), row.begin(), row.end());
  Pass<double> pass = tuned.pass();
  const FrontedRows fronted = with_fronts(pass.fronts, *Sequences::of_lengths(sizes), tokens);
  pass.sequences = fronted.sequences;
  return hidden_states(tuned.model(), fronted.ids, pass);
}

}  // namespace

TEST_CASE("placed virtual tokens are what tokens in their places are", "[adapters]") {
  for (const bool causal : {true, false}) {
    auto base = tiny_transformer<double>();
    base.config.attention.causal = causal;
    for (auto& layer : base.layers) layer.self_attn.core.shape.causal = causal;
    PlacedModel plain{base}, tuned{base};
    plain.add_adapter("a", PromptTuningConfig{.num_virtual_tokens = 3});
    plain.set_adapter(std::vector<std::string>{});
    tuned.add_adapter("a", PromptTuningConfig{.num_virtual_tokens = 3, .prompt_tuning_init = "TEXT", .init_ids = {4, 9, 7}, .token_template = around});
    CHECK(tuned.pass().fronts[0].tokens == 0);
    CHECK(tuned.pass().fronts[0].placed == 3);
    // Ragged, and not every row has all of them.
    const Tensor<double> found = states(tuned, {{11, 1, 2, 12, 13, 3}, {5, 11, 12, 13}, {12, 6}});
    CHECK(same_bits(found, states(plain, {{4, 1, 2, 9, 7, 3}, {5, 4, 9, 7}, {9, 6}})));
    CHECK_THROWS_WITH(states(tuned, {{11, 1}, {1, 2}}), Contains("a sequence without any of the virtual tokens"));
    CHECK_THROWS_WITH(states(tuned, {{14}}), Contains("there is no virtual token 3"));
  }
}

TEST_CASE("a template with all virtual tokens in front is the prompt in front", "[adapters]") {
  auto base = tiny_transformer<double>();
  PlacedModel front{base}, placed{base};
  PromptEncoderConfig config{.num_virtual_tokens = 2, .encoder_reparameterization_type = "LSTM", .encoder_hidden_size = 3};
  front.add_adapter("a", config, 5);
  config.token_template = "[P][P] {text}{answer}";
  placed.add_adapter("a", config, 5);
  CHECK(same_bits(states(placed, {{11, 12, 1, 2}, {11, 12, 3}}), states(front, {{1, 2}, {3}})));
}

TEST_CASE("gradients of placed prompts and their encoders", "[adapters][gradcheck]") {
  const auto check = [](const auto& config) {
    auto base = tiny_transformer<double>();
    PlacedModel tuned{base};
    tuned.add_adapter("a", config, 5);
    std::vector<Parameter<double>> parameters;
    tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) {
      for (std::int64_t i = 0; i < p.size(); i++) p.value()[i] += 0.1 * std::sin(double(i + 1));
      if (p.requires_grad()) p.touch(), parameters.push_back(p);
    });
    REQUIRE(!parameters.empty());
    const std::vector<std::int32_t> tokens = {11, 1, 2, 12, 13, 3, 5, 11, 12, 13, 4};
    const Ids targets = {ignore_index, ignore_index, ignore_index, ignore_index, 3, 1, ignore_index, ignore_index, ignore_index, 4, ignore_index};
    CHECK(gradcheck(
        [&](const Variables&) {
          Pass<double> pass = tuned.pass();
          pass.sequences = Sequences::of_lengths(std::vector<std::int64_t>{6, 5});
          const PassScope<double> scope(pass);
          return tuned.model().loss(tuned.model().hidden_states(tokens), targets);
        },
        {}, parameters));
  };
  check(PromptTuningConfig{.num_virtual_tokens = 3, .token_template = around});
  check(PromptEncoderConfig{.num_virtual_tokens = 3, .encoder_hidden_size = 3, .token_template = around});
  check(PromptEncoderConfig{.num_virtual_tokens = 3, .encoder_reparameterization_type = "LSTM", .encoder_hidden_size = 2, .token_template = around});
}

TEST_CASE("of an encoder-decoder, placed virtual tokens are tokens of the source", "[adapters][gradcheck]") {
  auto base = tiny_encoder_decoder<double>();
  PlacedModel tuned{base}, front{base};
  PromptTuningConfig config{.num_virtual_tokens = 3, .prompt_tuning_init = "TEXT", .init_ids = {4, 9, 7, 1, 2, 3}};
  front.add_adapter("a", config);
  config.token_template = around;
  tuned.add_adapter("a", config);
  CHECK(tuned.pass().fronts.empty());
  CHECK(tuned.pass().source_fronts[0].placed == 3);
  const std::vector<std::int32_t> ids = random_ids(4, 11, 5);
  const auto answered = [&](const PlacedModel& model, const std::vector<std::int32_t>& source) { return decoded(model.model(), model.pass(), source, ids); };
  CHECK(same_bits(answered(tuned, {11, 1, 2, 12, 13, 3}), decoded(base, {}, std::vector<std::int32_t>{4, 1, 2, 9, 7, 3}, ids)));
  CHECK(same_bits(answered(tuned, {11, 12, 13, 5, 6}), answered(front, {5, 6})));
  CHECK_THROWS_WITH(answered(tuned, {1, 2}), Contains("a sequence without any of the virtual tokens"));

  const auto parameters = parameters_of(tuned);
  CHECK(gradcheck(
      [&](const Variables&) {
        Pass<double> pass = tuned.pass();
        pass.sequences = Sequences::of_lengths(std::vector<std::int64_t>{4});
        const std::vector<std::int32_t> source = {11, 1, 2, 12, 13, 3};
        tuned.model().encode(pass, Sequences::of_lengths(std::vector<std::int64_t>{6}), source);
        const PassScope<double> scope(pass);
        return tuned.model().loss(tuned.model().hidden_states(ids), random_labels(4, 11));
      },
      {}, parameters));
}

TEST_CASE("a template that does not fit is refused", "[adapters]") {
  CHECK_THROWS_WITH(validate(PromptEncoderConfig{.num_virtual_tokens = 4, .token_template = around}),
                    Contains("num_virtual_tokens is 4, and token_template places 3"));
  CHECK_THROWS_WITH(validate(PromptTuningConfig{.token_template = "{a} {answer}"}), Contains("places no virtual token"));
  CHECK_THROWS_WITH(parse_token_template("{prompt:2} {answer} {answer:b}"), Contains("has two answers"));
  CHECK_THROWS_WITH(parse_token_template("{prompt:two}"), Contains("{prompt:N} with a number of at least 1"));
  CHECK_THROWS_WITH(parse_token_template("{prompt:2"), Contains("has a { that no } closes"));
  CHECK_THROWS_WITH(parse_token_template("{} [P]"), Contains("{FIELD} of a row"));
  const auto parts = parse_token_template("[P] [P]{prompt:2} is {{x}} {a}  [P]{answer:b} ");
  CHECK(num_virtual_tokens(parts) == 5);
  REQUIRE(parts.size() == 5);
  CHECK(parts[1].text == " is {x} ");
  CHECK(parts[2].text == "a");
  CHECK(parts[4].text == "b");
  auto base = tiny_transformer<double>();
  PlacedModel tuned{base};
  tuned.add_adapter("a", PromptTuningConfig{.num_virtual_tokens = 3, .token_template = around});
  CHECK_THROWS_WITH(tuned.merge_adapter(), Contains("among their tokens"));
  tuned.add_adapter("b", PromptTuningConfig{.num_virtual_tokens = 2});
  tuned.set_adapter(std::vector<std::string>{"a", "b"});
  CHECK_THROWS_WITH(tuned.pass(), Contains("two active adapters both give a sequence virtual tokens"));
}
