// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"

#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>
#include <peft/core/parallel.hpp>
#include <peft/ops/isa.hpp>
#include <peft/ops/quantized.hpp>
#include <peft/tokenizer/builtin_templates.hpp>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <regex>
#include <sstream>

namespace tool {

void ModelOptions::add_to(CLI::App& command, bool with_adapter) {
  command.add_option("--model,-m", model, "a Hugging Face directory or a GGUF file")->required();
  if (with_adapter) command.add_option("--adapter,-a", adapters, "a PEFT adapter directory or a GGUF LoRA; several act together, the first innermost");
  command.add_option("--quantize", quantize, "turn the layers' weights into this while they are read: nf4 (QLoRA), q8_0, q5_1, q5_0, q4_1, q4_0");
  command.add_option("--threads", threads, "threads to compute with (PEFT_NUM_THREADS, or all cores)")->check(above_zero());
}

void ModelOptions::add_chat_template_to(CLI::App& command) {
  std::string names;
  for (const std::string& name : peft::builtin_chat_templates()) names += (names.empty() ? "" : ", ") + name;
  command.add_option(
      "--chat-template", chat_template,
      "how conversations are written: " + names + ", or a file with a template in Jinja (what the adapter was trained with, or the model's own)");
}

std::optional<peft::ChatTemplate> chosen_chat_template(const ModelOptions& options) {
  if (!options.chat_template.empty()) return peft::load_chat_template(options.chat_template);
  std::optional<peft::ChatTemplate> chosen;
  for (const std::string& adapter : options.adapters) {
    const std::filesystem::path file = std::filesystem::path(adapter) / "chat_template.jinja";
    std::error_code ignored;
    if (!std::filesystem::exists(file) || std::filesystem::equivalent(adapter, options.model, ignored)) continue;
    peft::ChatTemplate one = peft::load_chat_template(file.string());
    if (chosen && chosen->text() != one.text())
      throw peft::ConfigError("peft", "the adapters have different chat templates; --chat-template says which counts");
    chosen = std::move(one);
  }
  return chosen;
}

peft::Tokenizer tokenizer_of(const ModelOptions& options) {
  peft::Tokenizer tokenizer = peft::load_tokenizer(options.model);
  auto chosen = chosen_chat_template(options);
  return chosen ? tokenizer.with_chat_template(*std::move(chosen)) : tokenizer;
}

namespace {
peft::ModelFile open_with(const ModelOptions& options) {
  if (options.threads > 0) peft::set_num_threads(options.threads);
  // A model with a prefix of its own, and that as an adapter: both are in one directory.
  const auto is_the_model = [&](const std::string& adapter) {
    return peft::has_prefix_encoder(adapter) && std::filesystem::equivalent(adapter, options.model);
  };
  peft::ModelTask task = options.task;
  task.without_prefix = std::ranges::any_of(options.adapters, is_the_model);
  for (const std::string& adapter : options.adapters)
    if (!task.task && !is_the_model(adapter)) {
      const bool without_prefix = task.without_prefix;
      task = peft::adapter_task(adapter), task.without_prefix = without_prefix;
    }
  return peft::open_model(options.model, task);
}

peft::LoadOptions load_options(const ModelOptions& options) {
  if (options.quantize.empty()) return {};
  return {.quantize = peft::ops::quantizable_named("load_model", "quantize", options.quantize)};
}

// A folder's name as a name for its adapter, different from those that are taken.
std::string adapter_name(const std::string& directory, const std::vector<std::string>& taken) {
  const std::filesystem::path whole = std::filesystem::weakly_canonical(directory);
  std::string name = (whole.has_filename() ? whole : whole.parent_path()).filename().string();
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-' && c != '.') c = '_';
  if (name.empty()) name = "adapter";
  std::string one = name;
  for (int i = 2; std::find(taken.begin(), taken.end(), one) != taken.end(); i++) one = name + "-" + std::to_string(i);
  return one;
}
}  // namespace

Opened::Opened(const ModelOptions& options)
    : file(open_with(options)), quantized(!options.quantize.empty()), base(peft::build_model<float>(file, load_options(options))), tuned(base) {
  if (quantized) {
    std::map<const void*, std::int64_t> bytes;  // a tied head counts once
    peft::for_each_parameter(base, [&](const std::string&, const peft::Parameter<float>& p) { bytes[p.identity()] = p.bytes(); });
    file.bytes = 0;
    for (const auto& [tensor, size] : bytes) file.bytes += size;
    file.storage = peft::name(*load_options(options).quantize);
  }
  std::vector<std::string> names;
  for (const std::string& directory : options.adapters) {
    names.push_back(adapter_name(directory, names));
    peft::load_adapter(tuned, names.back(), directory);
  }
  if (!names.empty()) tuned.set_adapter(names);
}

namespace {
CLI::Validator number_from_zero(bool zero_too) {
  const auto check = [zero_too](const std::string& text) -> std::string {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size() && (number > 0 || (zero_too && number == 0))) return "";
    return fmt::format("\"{}\"; wanted: a number{}", text, zero_too ? ", 0 or more" : " above 0");
  };
  return CLI::Validator(check, zero_too ? "NONNEGATIVE" : "POSITIVE");
}
}  // namespace
CLI::Validator above_zero() { return number_from_zero(false); }
CLI::Validator zero_or_more() { return number_from_zero(true); }

std::string model_words(const ModelOptions& options) {
  return "--model " + shell_word(options.model) + (options.quantize.empty() ? "" : " --quantize " + shell_word(options.quantize));
}

std::string model_name(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path whole = fs::weakly_canonical(path);
  // The hub's cache keeps a model as models--OWNER--NAME/snapshots/REVISION.
  if (const std::string owner = whole.parent_path().parent_path().filename().string();
      owner.starts_with("models--") && whole.parent_path().filename() == "snapshots")
    return owner.substr(owner.rfind("--") + 2);
  std::string name = whole.filename().string();
  if (!name.ends_with(".gguf")) return name;
  name.resize(name.size() - 5);
  static const std::regex quantisation(R"([-._]((UD-)?I?Q\d\w*|TQ\d_0|BF16|F16|FP16|F32)$)", std::regex::icase);
  return std::regex_replace(name, quantisation, "");
}

std::string describe(const Opened& opened) {
  const auto& c = opened.base.config;
  const int threads = peft::num_threads();
  const std::string encoder = c.num_encoder_layers > 0 ? fmt::format("{} + ", c.num_encoder_layers) : "";
  return fmt::format("{}   {}, {}{} layers, {:.1f}M parameters, {} ({}, {})   {} thread{}, {}", bold(model_name(opened.file.path)), c.model_type, encoder,
                     c.num_hidden_layers, double(peft::count_parameters(const_cast<peft::Transformer<float>&>(opened.base)).total) / 1e6, opened.file.storage,
                     bytes_text(opened.file.bytes), opened.quantized ? "quantised" : "mapped", threads, threads == 1 ? "" : "s", peft::name(peft::isa()));
}

std::int64_t training_memory(const Opened& opened, std::int64_t tokens, std::int64_t trainable, bool checkpointing) {
  const auto& c = opened.base.config;
  const std::int64_t hidden = c.hidden_size, inner = c.mlp.intermediate_size, heads = c.attention.num_attention_heads;
  const std::int64_t q = heads * c.attention.head_dim, kv = c.attention.num_key_value_heads * c.attention.head_dim;
  // Kept of a token in a layer: the residual stream twice, q and the context, k, v, gate and up. Norms and activations are made again.
  // With an encoder, a token is of one side; one of the decoder has cross-attention besides.
  const std::int64_t layers = std::max(c.num_hidden_layers, c.num_encoder_layers), across = c.num_encoder_layers > 0 ? hidden + 2 * q + 2 * kv : 0;
  const std::int64_t layer = 2 * hidden + 2 * q + 2 * kv + heads + 2 * inner + across;
  // Checkpointing keeps each layer's input, and all of the one layer whose backward runs.
  const std::int64_t kept = checkpointing ? layer + hidden * layers : layer * layers;
  // Measured: gradients and scratch of a layer, a tenth of blocks that lie unused between others, and the program with its tokenizer.
  constexpr std::int64_t program = std::int64_t{20} << 20;
  return opened.file.bytes + program + 4 * tokens * (kept + kept / 10 + layer) + 16 * trainable;
}

namespace {
std::string read_text(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream file(path, std::ios::binary);
  if (!file) throw peft::FormatError(path, -1, "the file cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream all(text);
  for (std::string line; std::getline(all, line);) {
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}
}  // namespace

std::vector<std::string> read_lines(const std::string& path) { return lines_of(read_text(path)); }

std::vector<peft::Json> read_rows(const std::string& path) {
  const std::string text = read_text(path);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != text.npos && text[first] == '[') return peft::Json::parse(text, path).array();
  std::vector<peft::Json> rows;
  for (const std::string& line : lines_of(text)) rows.push_back(peft::Json::parse(line, path));
  return rows;
}

std::string text_of(const peft::Json& row, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const peft::Json* value = row.get(name); value && value->is_string()) return value->string();
  return "";
}

std::string bytes_text(std::int64_t bytes) {
  const double mib = double(bytes) / (1 << 20);
  return mib < 10 ? fmt::format("{:.1f} MiB", mib) : mib < 1024 * 10 ? fmt::format("{:.0f} MiB", mib) : fmt::format("{:.1f} GiB", mib / 1024);
}

std::string time_text(double seconds) {
  const auto s = std::int64_t(seconds + 0.5);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60) : fmt::format("{}:{:02}", s / 60, s % 60);
}

bool is_terminal() {
  static const bool yes = ::isatty(1);
  return yes;
}
namespace {
std::string styled(const char* code, const std::string& text) {
  return is_terminal() && !std::getenv("NO_COLOR") ? "\033[" + std::string(code) + "m" + text + "\033[0m" : text;
}
}  // namespace
std::string dim(const std::string& text) { return styled("2", text); }
std::string bold(const std::string& text) { return styled("1", text); }

std::string shell_word(const std::string& word) {
  if (!word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%") == std::string::npos) return word;
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

namespace {
std::vector<std::string> words;
}  // namespace
void remember_command_line(int argc, char** argv) { words.assign(argv, argv + argc); }
std::string program() { return shell_word(words.at(0)); }
std::string command_line() {
  std::string line = program();
  for (std::size_t i = 1; i < words.size(); i++) line += " " + shell_word(words[i]);
  return line;
}

namespace {
std::atomic<int> interrupts{0};
void on_interrupt(int) {
  if (interrupts.fetch_add(1) > 0) ::_exit(130);
}
}  // namespace
InterruptWatch::InterruptWatch(std::initializer_list<int> signals) : signals_(signals) {
  interrupts.store(0);
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  for (int s : signals_) ::sigaction(s, &action, nullptr);
}
InterruptWatch::~InterruptWatch() {
  for (int s : signals_) ::signal(s, SIG_DFL);
}
bool InterruptWatch::interrupted() { return interrupts.load() > 0; }

}  // namespace tool
