// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/generate/generate.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common.hpp"

namespace tool {

/// What generate is told.
struct GenerateOptions {
  ModelOptions model;
  std::optional<std::string> prompt, prompts, completions;
  std::string out, system, regex, json_schema, draft, prompt_cache;
  std::vector<std::string> stop, settings;  // settings: NAME=VALUE
  std::optional<std::int64_t> max_new_tokens, top_k, prompt_lookup;
  std::optional<double> temperature, top_p, repetition_penalty;
  std::optional<std::uint64_t> seed;
  std::int64_t batch = 16;
  bool raw = false, half_cache = false;
};

/// The settings: those of the model's generation_config.json, then the options, then what --set says.
peft::GenerationConfig generation_config(const GenerateOptions& options, const peft::Tokenizer& tokenizer);
/// More of them by Hugging Face's names: "temperature", "0.7"; they are judged together. A value that is no JSON is a string.
peft::GenerationConfig with_settings(peft::GenerationConfig config, const std::vector<std::pair<std::string, std::string>>& settings);

/// The model that guesses ahead, if --draft names one. Stays where it is: `view` looks at `model`.
struct Draft {
  std::optional<peft::Transformer<float>> model;
  std::optional<peft::LanguageModel<float>> view;
  explicit Draft(const std::string& path);
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  peft::LanguageModel<float>* get() { return view ? &*view : nullptr; }
};

/// "24 tokens, first after 0.12 s, then 41.3 tok/s, 17 of 20 guesses right (85 %)"
std::string speed_text(const peft::Generation& generation);
/// ", 17 of 20 guesses right (85 %)"; nothing where none were made.
std::string guesses_text(std::int64_t right, std::int64_t made);

/// A conversation, a line a turn, from a terminal or not.
void chat(Opened& opened, const peft::Tokenizer& tokenizer, const GenerateOptions& options);
/// A file of prompts, answered together: a row of JSON each.
void generate_rows(Opened& opened, const peft::Tokenizer& tokenizer, const GenerateOptions& options);
/// A file of requests of the completion API, answered one after the other.
void answer_completions(Opened& opened, const peft::Tokenizer& tokenizer, const GenerateOptions& options);

}  // namespace tool
