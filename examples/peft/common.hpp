// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/adapters/adapters.hpp>
#include <peft/checkpoint/adapter_file.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/data/example.hpp>
#include <peft/io/json.hpp>
#include <peft/tokenizer/tokenizer.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tool {

/// What every command that opens a model is told.
struct ModelOptions {
  std::string model;
  std::vector<std::string> adapters;
  std::string quantize;  // a type's name; "": as the file has it
  int threads = 0;
  std::string chat_template;  // a name or a file; "": the adapters', or the model's own
  peft::ModelTask task = {};  // no option of its own; where none is set, that of the adapters
  void add_to(CLI::App& command, bool with_adapter = true);
  void add_chat_template_to(CLI::App& command);
};

/// A model with the adapters that were asked for, by the names of their folders, ready to use. Stays where it is: `tuned` looks at `base`.
struct Opened {
  peft::ModelFile file;  // of a model that is quantised: bytes and storage as they are by then
  bool quantized = false;
  peft::Transformer<float> base;
  peft::PeftModel<peft::Transformer<float>> tuned;
  explicit Opened(const ModelOptions& options);
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
};

/// The model's tokenizer with the chat template that was asked for: --chat-template, else the one that training left in an adapter's folder.
peft::Tokenizer tokenizer_of(const ModelOptions& options);
/// That template, for a folder or file that a model goes to; nothing where the model's own counts.
std::optional<peft::ChatTemplate> chosen_chat_template(const ModelOptions& options);

/// What an option's number has to be.
CLI::Validator above_zero();
CLI::Validator zero_or_more();

/// What a call prints for the next one: "--model llama/ --quantize nf4".
std::string model_words(const ModelOptions& options);

/// "SmolLM2-135M-Instruct   llama, 30 layers, 134.5M parameters, Q4_1 (94 MiB, mapped)   2 threads, AVX-512"
std::string describe(const Opened& opened);
/// What people call the model of this path: the file or folder without ".gguf" and the kind of quantisation.
std::string model_name(const std::string& path);

/// Bytes that the process holds at most while so many tokens go forward and backward: the mapped file, what forward keeps for
/// backward, the optimiser, and scratch.
std::int64_t training_memory(const Opened& opened, std::int64_t tokens, std::int64_t trainable, bool checkpointing);

/// The rows of a file of JSON lines, or of a JSON list; "-": standard input.
std::vector<peft::Json> read_rows(const std::string& path);
/// The lines of a file of plain text that say something; "-": standard input.
std::vector<std::string> read_lines(const std::string& path);
/// A row's text under the first of these names that it has; "" if it has none.
std::string text_of(const peft::Json& row, std::initializer_list<const char*> names);

/// "━━━━────" of so many columns, `done` from 0 to 1.
std::string bar_text(double done, int width);

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
/// The call that this process was started with, and its first word alone: what is printed for copying has them as the user wrote them.
void remember_command_line(int argc, char** argv);
std::string command_line();
std::string program();

/// While one lives, these signals are noted instead of ending the program; a second one ends it at once.
class InterruptWatch {
 public:
  explicit InterruptWatch(std::initializer_list<int> signals);
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;
  static bool interrupted();

 private:
  std::vector<int> signals_;
};
/// Thrown when a command has ended early, in good order, because the user wanted it: exit code 130.
struct Interrupted {};

/// A command about a model: Options has the model's as `model`, `add` enters the others, and `run` is called with all.
template <class Options>
void add_command(CLI::App& app, const std::string& name, const std::string& description, void (*run)(const Options&), void (*add)(CLI::App&, Options&),
                 const std::string& footer) {
  CLI::App* const command = app.add_subcommand(name, description);
  const auto options = std::make_shared<Options>();
  options->model.add_to(*command);
  add(*command, *options);
  command->footer(footer);
  command->callback([=] { run(*options); });
}

/// Calls f with rows, a few dozen at a time; what it prints is seen then.
template <class Row, class F>
void in_groups(const std::vector<Row>& rows, const F& f) {
  constexpr std::size_t group = 64;
  for (std::size_t begin = 0; begin < rows.size(); begin += group) {
    f(std::span<const Row>(rows).subspan(begin, std::min(group, rows.size() - begin)));
    std::fflush(stdout);
  }
}

void add_fetch(CLI::App& app);
void add_info(CLI::App& app);
void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_generate(CLI::App& app);
void add_classify(CLI::App& app);
void add_answer(CLI::App& app);
void add_embed(CLI::App& app);
void add_score(CLI::App& app);
void add_perplexity(CLI::App& app);
void add_merge(CLI::App& app);
void add_export(CLI::App& app);

}  // namespace tool
