// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <filesystem>
#include <fstream>

#include "peft/io/json.hpp"
#include "peft/train/trainer.hpp"

namespace peft {

PEFT_INLINE void validate(const TrainingArguments& a) {
  const auto at_least = [](const char* field, double value, double low) {
    if (!(value >= low)) throw ConfigError("TrainingArguments", fmt::format("{} is {:g}; at least {:g} is wanted", field, value, low));
  };
  if (a.max_steps <= 0) at_least("num_epochs", double(a.num_epochs), 1);
  at_least("batch_size", double(a.batch_size), 1);
  at_least("gradient_accumulation_steps", double(a.gradient_accumulation_steps), 1);
  at_least("tokens_per_forward", double(a.tokens_per_forward), 0);
  if (a.compute_dtype != DType::f32 && a.compute_dtype != DType::bf16)
    throw ConfigError("TrainingArguments", fmt::format("compute_dtype is {}; allowed are f32, bf16", name(a.compute_dtype)));
  at_least("learning_rate", a.learning_rate, 0);
  at_least("warmup_steps", double(a.warmup_steps), 0);
  at_least("weight_decay", a.weight_decay, 0);
  at_least("max_grad_norm", a.max_grad_norm, 0);
  if (!(a.warmup_ratio >= 0 && a.warmup_ratio <= 1))
    throw ConfigError("TrainingArguments", fmt::format("warmup_ratio is {:g}; allowed is 0 … 1", a.warmup_ratio));
  if (a.loraplus_lr_ratio != 0) {
    at_least("loraplus_lr_ratio", a.loraplus_lr_ratio, 1);
    at_least("loraplus_lr_embedding", a.loraplus_lr_embedding, 0);
    if (a.learning_rate == 0) throw ConfigError("TrainingArguments", "learning_rate is 0; LoRA+ wants a positive one");
    if (a.lorafa) throw ConfigError("TrainingArguments", "lorafa with loraplus_lr_ratio; LoRA-FA trains no A that B could be faster than");
  }
  schedule_named(a.lr_scheduler);
  if (!a.cache_frozen && !a.cache_dir.empty()) throw ConfigError("TrainingArguments", "cache_dir is \"" + a.cache_dir + "\" without cache_frozen");
  if (!a.keep_state && a.save_steps > 0) throw ConfigError("TrainingArguments", fmt::format("save_steps is {} while keep_state is false", a.save_steps));
  if (a.output_dir.empty() && (a.resume || a.save_steps > 0)) throw ConfigError("TrainingArguments", "resume and save_steps need an output_dir");
}

namespace detail {

PEFT_INLINE TrainingLog::TrainingLog(const std::string& directory, bool append) {
  if (directory.empty()) return;
  std::error_code failure;
  std::filesystem::create_directories(directory, failure);
  path_ = directory + "/log.jsonl";
  std::ofstream file(path_, append ? std::ios::app : std::ios::trunc);
  if (!file) throw FormatError(path_, -1, "cannot be written");
}
PEFT_INLINE void TrainingLog::line(const std::string& text) const {
  if (!path_.empty()) std::ofstream(path_, std::ios::app) << text << '\n';
}
PEFT_INLINE void TrainingLog::step(const TrainingProgress& p) const {
  Json j = Json::make_object();
  j.set("step", Json(p.step)), j.set("epoch", Json(p.epoch)), j.set("loss", Json(p.loss)), j.set("learning_rate", Json(p.learning_rate)),
      j.set("grad_norm", Json(p.grad_norm));
  j.set("tokens_per_second", Json(p.tokens_per_second)), j.set("seconds", Json(p.seconds)), j.set("peak_mib", Json(double(p.peak_memory >> 20)));
  line(j.dump());
}
PEFT_INLINE void TrainingLog::evaluation(const TrainingProgress& p, const Evaluation& e) const {
  Json j = Json::make_object();
  j.set("step", Json(p.step)), j.set("epoch", Json(p.epoch)), j.set("eval_loss", Json(e.loss)), j.set("eval_perplexity", Json(e.perplexity()));
  if (e.scores)
    for (const auto& [name, value] : e.scores->named()) j.set("eval_" + name, Json(value));
  line(j.dump());
}

}  // namespace detail
}  // namespace peft
