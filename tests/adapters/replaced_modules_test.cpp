// SPDX-License-Identifier: Apache-2.0
// Norms, tokens and whole modules that train as copies, and adaption prompts.
#include "adapters/tuned_transformer.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

TEST_CASE("gradients of norms, biases, tokens, embeddings and adaption prompts", "[adapters][gradcheck]") {
  check_gradients(LNTuningConfig{});
  check_gradients(LNTuningConfig{}, {}, {.biases = true});
  check_gradients(BitFitConfig{}, {}, {.biases = true});
  check_gradients(TrainableTokensConfig{.token_indices = {2, 5, 7}}, {}, {.tied = true});
  check_gradients(LoraConfig{.r = 2, .target_modules = {"embed_tokens", "q_proj"}, .init_lora_weights = false}, {}, {.layers = 1});
  check_gradients(LoraConfig{.r = 1, .target_modules = {"q_proj"}, .init_lora_weights = false, .trainable_token_indices = {{"", {1, 3}}}}, {},
                  {.layers = 1, .tied = true});
  check_gradients(LoraConfig{.r = 1, .target_modules = {"q_proj"}, .init_lora_weights = false, .trainable_token_indices = {{"lm_head", {1, 3}}}}, {},
                  {.layers = 1, .tied = true});
  check_gradients(LoraConfig{.r = 1, .target_modules = {"q_proj"}, .init_lora_weights = false, .modules_to_save = {"lm_head"}}, {}, {.layers = 1});
  check_gradients(AdaptionPromptConfig{.adapter_len = 3, .adapter_layers = 1});
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
  CHECK_THROWS_WITH(tuned.add_adapter("b", TrainableTokensConfig{.token_indices = {11}}), Contains("token 11; the model has tokens 0 to 10"));
  CHECK_THROWS_WITH(tuned.add_adapter("b", TrainableTokensConfig{.token_indices = {1, 1}}), Contains("token 1 is named twice"));
  CHECK_THROWS_WITH(tuned.add_adapter("b", TrainableTokensConfig{}), Contains("token_indices is empty"));
}

TEST_CASE("a LoRA's trained tokens may be the head's, whether it is tied or not", "[adapters]") {
  const std::vector<std::int32_t> ids = {2, 1, 5, 2};
  const auto logits_of = [&](const Transformer<double>& model, const Pass<double>& pass) {
    const PassScope<double> scope(pass);
    return model.logits(model.hidden_states(ids)).value();
  };
  for (const bool tied : {false, true}) {
    auto base = tiny_transformer<double>({.tied = tied});
    const Tensor<double> before = logits_of(base, pass_over<double>({4}));
    const auto with = [&](const TokenIndices& tokens, std::size_t tensors) {
      CAPTURE(tied, tensors);
      TunedDouble tuned{base};
      tuned.add_adapter("a", LoraConfig{.r = 1, .target_modules = {"q_proj"}, .trainable_token_indices = tokens});
      std::vector<Parameter<double>> rows;
      tuned.for_each_adapter_parameter("a", [&](const std::string& path, const auto& p) {
        if (path.find("trainable_tokens_delta") != std::string::npos) rows.push_back(p);
      });
      CHECK(rows.size() == tensors);
      const auto pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{4}));
      CHECK(same_bits(logits_of(tuned.model(), pass), before));  // copies of the base's rows
      rows.back().assign(normal(rows.back().shape(), 6));
      const Tensor<double> after = logits_of(tuned.model(), pass);
      CHECK_THAT(array(logits_of(tuned.merge_and_unload(), pass_over<double>({4}))), is_near<double>(array(after), 50));
      return after;
    };
    const Tensor<double> of_head = with({{"lm_head", {3, 7}}}, 1);
    for (std::int64_t t = 0; t < 4; t++)
      for (std::int64_t v = 0; v < before.cols(); v++) CHECK((of_head(t, v) == before(t, v)) == (v != 3 && v != 7));
    with({{"embed_tokens", {2}}, {"lm_head", {3, 7}}}, 2);
    with({{"embed_tokens", {2, 5}}, {"lm_head", {2, 5}}}, tied ? 1 : 2);
  }
  auto base = tiny_transformer<double>();
  TunedDouble tuned{base};
  CHECK_THROWS_WITH(tuned.add_adapter("a", LoraConfig{.target_modules = {"q_proj"}, .trainable_token_indices = {{"q_proj", {1}}}}),
                    Contains("trainable_token_indices of \"q_proj\"; the input embedding (model.embed_tokens) and the head (lm_head) have some"));
  CHECK_THROWS_WITH(tuned.add_adapter("a", LoraConfig{.modules_to_save = {"lm_head"}, .trainable_token_indices = {{"lm_head", {1}}}}),
                    Contains("trainable_token_indices of \"lm_head\", all of which modules_to_save trains"));
  CHECK_THROWS_WITH(tuned.add_adapter("a", LoraConfig{.target_modules = {"lm_head"}, .trainable_token_indices = {{"lm_head", {1}}}}),
                    Contains("LoRA on lm_head of which single tokens train, too"));
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
