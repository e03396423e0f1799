// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common.hpp"

namespace tool {

/// Training without an adapter: which of the model's own weights change, and how they are written.
struct WeightOptions {
  std::vector<std::string> train, freeze;  // patterns, or names of parts
  std::int64_t train_last = 0, freeze_layers = 0;
  std::string dtype = "f32";
  void add_to(CLI::App& command);
  bool given() const { return !train.empty() || !freeze.empty() || train_last > 0 || freeze_layers > 0; }
};

/// Freezes and thaws as the options say. Throws ConfigError for a pattern that matches nothing, and for a weight that is stored in a type of few bits.
peft::ParameterCount choose_weights(Opened& opened, const WeightOptions& options);
/// "the last 2 of 30 layers, norms, without embeddings"
std::string title(const Opened& opened, const WeightOptions& options);

/// Writes the model and its tokenizer into `out`, which may hold other files: a Hugging Face directory. All is written before anything of it appears
/// there. Returns what was wrong with the tokenizer; "": nothing.
std::string save_weights(const Opened& opened, const ModelOptions& model, const std::string& out, const std::string& dtype);

}  // namespace tool
