// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/adapters/adapters.hpp>
#include <peft/checkpoint/adapter_file.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/data/example.hpp>
#include <peft/tokenizer/tokenizer.hpp>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace tool {

/// What every command that opens a model is told.
struct ModelOptions {
  std::string model;
  std::vector<std::string> adapters;
  int threads = 0;
  void add_to(CLI::App& command, bool with_adapter = true);
};

/// A model with the adapters that were asked for, ready to use. Stays where it is: `tuned` looks at `base`.
struct Opened {
  peft::ModelFile file;
  peft::Transformer<float> base;
  peft::PeftModel<peft::Transformer<float>> tuned;
  explicit Opened(const ModelOptions& options);
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
};

/// "SmolLM2 135M   llama, 30 layers, 134.5M parameters, Q4_1 (94 MiB, mapped)   2 threads, AVX-512"
std::string describe(const Opened& opened);

/// Bytes that training takes besides the mapped file: what forward keeps for backward, the optimiser, and scratch.
std::int64_t training_memory(const Opened& opened, std::int64_t tokens_in_a_batch, std::int64_t trainable, bool checkpointing);

/// 94 MiB, 1.2 GiB
std::string bytes_text(std::int64_t bytes);
/// 1:12, 12:40, 1:02:03
std::string time_text(double seconds);
/// Dim, bold and plain text, where standard output is a terminal and NO_COLOR is not set.
std::string dim(const std::string& text);
std::string bold(const std::string& text);
bool is_terminal();
/// A word as a shell takes it.
std::string shell_word(const std::string& word);
/// Last part of a path, "SmolLM2.gguf".
std::string file_name(const std::string& path);
/// True once Ctrl-C was pressed; a second one ends the program at once.
bool interrupted();
void watch_for_interrupt();
void forget_interrupt();

void add_fetch(CLI::App& app);
void add_info(CLI::App& app);
void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_generate(CLI::App& app);
void add_merge(CLI::App& app);

/// What `eval` measures, also for `train`.
struct QuestionResult {
  std::string question, wanted, answer;
  bool right = false;
};
struct EvalResult {
  double loss = 0, perplexity = 0;
  std::int64_t tokens = 0, right = 0;
  std::vector<QuestionResult> questions;
  double accuracy() const { return questions.empty() ? 0 : 100.0 * double(right) / double(questions.size()); }
};
/// Loss on the answers of a file of questions, and whether greedy answers hold the fact that each row names (or are the answer).
EvalResult evaluate_questions(Opened& opened, const peft::Tokenizer& tokenizer, const std::string& data, std::int64_t max_new_tokens, bool answers);

}  // namespace tool
