// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/train/trainer.hpp>

#include <memory>

#include "common.hpp"
#include "method_options.hpp"

namespace tool {

namespace {

struct Options {
  ModelOptions model;
  std::int64_t r = 16, batch = 8, length = 128;
  std::string targets;
};

void info(const Options& o) {
  Opened opened(o.model);
  const auto& c = opened.base.config;
  const auto line = [](const char* what, const std::string& text) { fmt::print("{:<14}{}\n", what, text); };
  fmt::print("{}\n", describe(opened));
  line("architecture", fmt::format("{}: hidden {}, {} heads over {} key-value heads of {}, intermediate {}, vocabulary {}, {} head", c.model_type,
                                   c.hidden_size, c.attention.num_attention_heads, c.attention.num_key_value_heads, c.attention.head_dim,
                                   c.mlp.intermediate_size, c.vocab_size, c.head.tied ? "tied" : "own"));
  line("context", fmt::format("{} tokens{}", c.max_position_embeddings, c.attention.rope ? fmt::format(", rope theta {}", c.attention.rope->theta) : ""));
  for (const std::string& name : opened.tuned.adapter_names()) {
    const auto& entry = opened.tuned.entry(name);
    if (const auto* lora = std::any_cast<peft::LoraConfig>(&entry.config))
      line("adapter", fmt::format("LoRA r={} alpha={} on {}", lora->r, lora->lora_alpha, lora->target_modules.text()));
    else
      line("adapter", method_name(entry.peft_type));
  }
  if (opened.tuned.adapter_names().empty()) {
    opened.tuned.add_adapter("default", peft::LoraConfig{.r = o.r, .lora_alpha = double(2 * o.r), .target_modules = targets_of(o.targets)});
    const auto count = opened.tuned.count_parameters();
    const auto& lora = std::any_cast<const peft::LoraConfig&>(opened.tuned.entry("default").config);
    line("LoRA", fmt::format("r={} on {}   {}", lora.r, lora.target_modules.text(), peft::to_string(count)));
    const std::int64_t tokens = std::min(o.batch * o.length, std::max(peft::TrainingArguments().tokens_per_forward, o.length));
    const auto memory = [&](bool checkpointing) { return bytes_text(training_memory(opened, tokens, count.trainable, checkpointing)); };
    line("memory", fmt::format("training it on {} x {} tokens takes about {}, {} with --checkpointing", o.batch, o.length, memory(false), memory(true)));
  } else {
    line("parameters", opened.tuned.trainable_parameters());
  }
}

}  // namespace

void add_info(CLI::App& app) {
  auto* command = app.add_subcommand("info", "Show what a model is, and what training an adapter on it would take");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command);
  command->add_option("--r", o->r, "rank of the LoRA to count")->capture_default_str();
  command->add_option("--targets", o->targets, "its modules: q_proj,v_proj, or all-linear");
  command->add_option("--batch", o->batch, "sequences a batch, for the estimate of memory")->capture_default_str();
  command->add_option("--length", o->length, "tokens a sequence")->capture_default_str();
  command->footer("Examples:\n  peft info --model SmolLM2-135M-Instruct.Q4_1.gguf\n  peft info --model llama/ --adapter out/");
  command->callback([=] { info(*o); });
}

}  // namespace tool
