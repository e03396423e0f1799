// SPDX-License-Identifier: Apache-2.0
// Methods that are more than the sum of Linears, on a transformer small enough for differences: prompts, prefixes, norms, tokens, embeddings.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "peft/adapters/peft_model.hpp"
#include "peft/adapters/registry.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

using TunedDouble = PeftModel<Transformer<double>>;

struct Fed {
  std::vector<std::int32_t> ids, targets;
  std::shared_ptr<const Sequences> sequences;
};
Fed fed_to(const TunedDouble& tuned, const std::vector<std::int64_t>& sizes, Pass<double>& pass, const std::vector<int>& tasks = {}) {
  std::vector<Sequence, PoolAllocator<Sequence>> all;
  std::int64_t n = 0;
  for (std::size_t i = 0; i < sizes.size(); i++) {
    Sequence s;
    s.begin = n, s.end = n += sizes[i], s.id = i, s.task = tasks.empty() ? 0 : tasks[i];
    all.push_back(s);
  }
  Fed fed{random_ids(n, 11), random_labels(n, 11), std::make_shared<Sequences>(std::move(all))};
  pass = tuned.pass();
  const FrontedRows rows = with_fronts(pass.fronts, *fed.sequences, fed.ids, fed.targets);
  pass.sequences = rows.sequences;
  return {rows.ids, {rows.targets.begin(), rows.targets.end()}, rows.sequences};
}
Variable<double> loss_of_tuned(const TunedDouble& tuned, const std::vector<int>& tasks = {}) {
  Pass<double> pass;
  const Fed fed = fed_to(tuned, {4, 3}, pass, tasks);
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
void check_gradients(const Config& config, const std::vector<int>& tasks = {}, const TinyShape& shape = {}) {
  auto base = tiny_transformer<double>(shape);
  TunedDouble tuned{base};
  tuned.add_adapter("a", config, 5);
  const auto parameters = parameters_of(tuned);
  REQUIRE(!parameters.empty());
  for (const auto& p : parameters)  // what begins at a neutral value shows nothing
    for (std::int64_t i = 0; i < p.size(); i++) p.value()[i] += 0.1 * std::sin(double(i + 1));
  for (const auto& p : parameters) p.touch();
  CHECK(gradcheck([&](const Variables&) { return loss_of_tuned(tuned, tasks); }, {}, parameters));
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
  CHECK_THROWS_WITH(tuned.pass(), Contains("two active adapters both put virtual tokens in front"));
  tuned.set_adapter(std::vector<std::string>{"a", "c"});  // a prompt behind a prefix
  CHECK(tuned.pass().fronts[0].tokens == 3);
  CHECK(tuned.pass().fronts[0].past == 2);
  CHECK_THROWS_WITH(tuned.add_adapter("d", PromptTuningConfig{.token_dim = 9}), Contains("token_dim is 9, this model's is 8"));
  CHECK_THROWS_WITH(validate(PromptTuningConfig{.num_virtual_tokens = 0}), Contains("num_virtual_tokens is 0"));
  CHECK_THROWS_WITH(validate(PromptTuningConfig{.prompt_tuning_init = "WORDS"}), Contains("prompt_tuning_init \"WORDS\""));
  CHECK_THROWS_WITH(validate(PromptEncoderConfig{.encoder_reparameterization_type = "GRU"}), Contains("encoder_reparameterization_type \"GRU\""));
  CHECK_THROWS_WITH(validate(PrefixTuningConfig{.init_weights = "ones"}), Contains("init_weights \"ones\""));
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
