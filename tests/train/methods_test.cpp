// SPDX-License-Identifier: Apache-2.0
// What methods ask of a trainer: prompts in front of sequences, a penalty in the loss, an act behind each step.
#include <catch2/catch.hpp>

#include "peft/adapters/registry.hpp"
#include "train/tiny_task.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

template <class Config>
std::vector<double> losses_of(const Config& config, double learning_rate, std::int64_t steps, bool checkpointing = false) {
  auto base = tiny_transformer<float>({.hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .inner = 24});
  PeftModel tuned{base};
  tuned.add_adapter("a", config, 3);
  Trainer trainer{tuned, TrainingArguments{.max_steps = steps, .learning_rate = learning_rate, .batch_size = 8, .checkpointing = checkpointing}};
  return trainer.fit(tiny_task(32)).losses;
}

}  // namespace

TEST_CASE("prompts, prefixes and tokens learn, and checkpointing changes no bit of it", "[train]") {
  const auto learns = [](const auto& config, double rate) {
    CAPTURE(std::decay_t<decltype(config)>::peft_type);
    const auto losses = losses_of(config, rate, 40);
    CHECK(losses.back() < 0.9 * losses.front());
    CHECK(losses_of(config, rate, 5, true) == losses_of(config, rate, 5));
  };
  learns(PrefixTuningConfig{.num_virtual_tokens = 4}, 5e-2);
  learns(PrefixTuningConfig{.num_virtual_tokens = 4, .prefix_projection = true}, 2e-2);
  learns(PromptTuningConfig{.num_virtual_tokens = 4}, 5e-2);
  learns(PromptEncoderConfig{.num_virtual_tokens = 4}, 2e-2);
  learns(IA3Config{}, 5e-2);
  learns(LNTuningConfig{}, 5e-2);
  learns(BottleneckConfig{.variant = "houlsby", .bottleneck_size = 4, .dropout = 0.1}, 2e-2);
  learns(BottleneckConfig{.bottleneck_size = 4, .learned_scaling = true}, 2e-2);
  learns(BottleneckConfig{.variant = "parallel"}, 2e-2);
  learns(AdaptionPromptConfig{.adapter_len = 4, .adapter_layers = 2}, 5e-2);
}

TEST_CASE("what a method prepares for a step of training drops as the step does", "[train]") {
  PromptEncoderConfig config{.num_virtual_tokens = 4, .encoder_reparameterization_type = "LSTM"};
  const auto whole = losses_of(config, 2e-2, 3);
  config.encoder_dropout = 0.5;
  const auto dropped = losses_of(config, 2e-2, 3);
  CHECK(dropped[0] != whole[0]);
  CHECK(losses_of(config, 2e-2, 3) == dropped);
  CHECK(losses_of(config, 2e-2, 3, true) == dropped);
}

TEST_CASE("a LoRA learns over NF4, and over the base that LoftQ quantises", "[train]") {
  for (const bool loftq : {false, true}) {
    auto base = tiny_transformer<float>({.hidden = 64, .layers = 2, .heads = 4, .kv_heads = 2, .inner = 64});
    if (!loftq)
      for_each_parameter(base, [](const std::string& path, Parameter<float>& p) {
        if (!path.starts_with("model.layers") || p.shape().rank() < 2) return;
        const ops::OwnedWeight q = ops::quantized(p.view(), DType::nf4);
        p = Parameter<float>(q.view, p.shape(), q.keep);
      });
    PeftModel tuned{base};
    tuned.add_adapter("a", LoraConfig{.r = 4, .target_modules = "all-linear", .init_lora_weights = loftq ? InitLoraWeights("loftq_nf4") : true}, 3);
    Trainer trainer{tuned, TrainingArguments{.max_steps = 40, .learning_rate = 1e-2, .batch_size = 8}};
    const auto losses = trainer.fit(tiny_task(32)).losses;
    CAPTURE(loftq, losses);
    CHECK(losses.back() < 0.5 * losses.front());
  }
}

TEST_CASE("what is in front of sequences does not share a beginning with what is in them", "[train]") {
  auto base = tiny_transformer<float>();
  PeftModel tuned{base};
  tuned.add_adapter("a", PromptTuningConfig{.num_virtual_tokens = 2}, 3);
  // Both begin with the same six tokens, without labels: a plain model would compute them once.
  std::vector<Example> examples(2);
  for (std::size_t i = 0; i < 2; i++) {
    examples[i].input_ids = {1, 2, 3, 4, 5, 6, std::int32_t(7 + i), 8}, examples[i].labels = std::vector<std::int32_t>(8, ignore_index);
    examples[i].labels[7] = 8;
  }
  const Dataset data{std::vector<Example>(examples)};
  const std::vector<std::size_t> both = {0, 1}, first = {0}, second = {1};
  const float together = lm_loss(tuned, collate(data, both)).value()[0];
  const float apart = lm_loss(tuned, collate(data, first)).value()[0] + lm_loss(tuned, collate(data, second)).value()[0];
  CHECK(together == Approx(apart / 2).epsilon(1e-5));
}

TEST_CASE("AdaLoRA's penalty trains and its ranks fall to the budget by the trainer alone", "[train]") {
  for (const std::int64_t total_step : {20, 0}) {  // said, or the trainer's
    auto base = tiny_transformer<float>({.hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .inner = 24});
    PeftModel tuned{base};
    tuned.add_adapter("a", AdaLoraConfig{.target_r = 1, .init_r = 3, .tinit = 2, .tfinal = 4, .total_step = total_step}, 3);
    const double before = tuned.penalty().value()[0];
    Trainer{tuned, TrainingArguments{.max_steps = 20, .learning_rate = 2e-2, .batch_size = 8}}.fit(tiny_task(32));
    CHECK(tuned.penalty().value()[0] < before);
    std::int64_t left = 0;
    tuned.for_each_adapter_parameter("a", [&](const std::string& path, const Parameter<float>& p) {
      if (path.ends_with("lora_E")) left += std::ranges::count_if(p.value().span(), [](float e) { return e != 0; });
    });
    CHECK(left == 4);  // q_proj and v_proj of two layers, one each on average
  }
}
