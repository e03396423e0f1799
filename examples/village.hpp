// SPDX-License-Identifier: Apache-2.0
// What the small examples share: a village that does not exist, a model that knows it (make_village.cpp), and how both are opened.
#pragma once

#include <fmt/core.h>
#include <peft/peft.hpp>

#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace village {

/// The model of the first argument (`--model DIR` or a GGUF file), or the village's own; the data that stands beside it.
struct Place {
  peft::Transformer<float> model;
  peft::Tokenizer tokenizer;
  static Place open(int argc, char** argv) {
    const bool given = argc == 3 && std::string_view(argv[1]) == "--model";
    if (argc != 1 && !given) throw peft::ConfigError(argv[0], "allowed is --model DIR_OR_GGUF");
    const std::string path = given ? argv[2] : PEFT_VILLAGE "/model";
    return {peft::load_model<float>(path), peft::load_tokenizer(path)};
  }
  /// "moved", who lives elsewhere now; "short", answers of one word.
  peft::Dataset data(const std::string& name) const { return peft::load_dataset(PEFT_VILLAGE "/" + name + ".jsonl", tokenizer); }
  template <class M>
  std::string ask(const M& who, std::string_view question) const {
    return peft::generate(who, tokenizer, question, {.max_tokens = 48});
  }
  /// Trains a fresh adapter on rows and calls f(tuned); afterwards the model is as it was.
  template <class Config, class F>
  void teach(const Config& config, const peft::Dataset& rows, double learning_rate, F f) {
    peft::PeftModel tuned{model};
    tuned.add_adapter("taught", config);
    peft::Trainer{tuned, {.num_epochs = 60, .learning_rate = learning_rate, .batch_size = 8}}.fit(rows);
    f(tuned);
    tuned.delete_adapter("taught");
  }
};

/// What the examples ask.
inline constexpr const char* question = "Where does the baker live?";

/// Runs an example; an error is a line of text.
template <class F>
int run(F example) {
  try {
    example();
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}

}  // namespace village
