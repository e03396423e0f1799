// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"

#include <fmt/core.h>
#include <peft/core/parallel.hpp>
#include <peft/ops/isa.hpp>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>

namespace tool {

void ModelOptions::add_to(CLI::App& command, bool with_adapter) {
  command.add_option("--model,-m", model, "a Hugging Face directory or a GGUF file")->required();
  if (with_adapter) command.add_option("--adapter,-a", adapters, "a PEFT adapter directory; several act together, the first innermost");
  command.add_option("--threads", threads, "threads to compute with (PEFT_NUM_THREADS, or all cores)")->check(CLI::PositiveNumber);
}

namespace {
peft::ModelFile open_with(const ModelOptions& options) {
  if (options.threads > 0) peft::set_num_threads(options.threads);
  return peft::open_model(options.model);
}
}  // namespace

Opened::Opened(const ModelOptions& options) : file(open_with(options)), base(peft::build_model<float>(file)), tuned(base) {
  std::vector<std::string> names;
  for (const std::string& directory : options.adapters) {
    names.push_back("adapter" + std::to_string(names.size()));
    peft::load_adapter(tuned, names.back(), directory);
  }
  if (!names.empty()) tuned.set_adapter(names);
}

std::string describe(const Opened& opened) {
  const auto& c = opened.base.config;
  return fmt::format("{}   {}, {} layers, {:.1f}M parameters, {} ({}, mapped)   {} thread{}, {}", bold(c.name), c.model_type, c.num_hidden_layers,
                     double(peft::count_parameters(const_cast<peft::Transformer<float>&>(opened.base)).total) / 1e6, opened.file.storage, bytes_text(opened.file.bytes),
                     peft::num_threads(), peft::num_threads() == 1 ? "" : "s", peft::name(peft::isa()));
}

std::int64_t training_memory(const Opened& opened, std::int64_t tokens, std::int64_t trainable, bool checkpointing) {
  const auto& c = opened.base.config;
  const std::int64_t q = c.attention.num_attention_heads * c.attention.head_dim, kv = c.attention.num_key_value_heads * c.attention.head_dim;
  // Kept a token and layer: the residual stream twice, the normalised input, q, k, v, the context, gate and up. With checkpointing one layer's
  // worth, and each layer's input.
  const std::int64_t layer = 3 * c.hidden_size + 2 * q + 2 * kv + 2 * c.mlp.intermediate_size;
  const std::int64_t kept = checkpointing ? layer + c.num_hidden_layers * c.hidden_size : layer * c.num_hidden_layers;
  const std::int64_t scratch = 4 * (tokens * (c.hidden_size * 6 + 1024)) + (std::int64_t{16} << 20);
  return 4 * tokens * kept + 16 * trainable + scratch;
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
std::string styled(const char* code, const std::string& text) { return is_terminal() && !std::getenv("NO_COLOR") ? "\033[" + std::string(code) + "m" + text + "\033[0m" : text; }
}  // namespace
std::string dim(const std::string& text) { return styled("2", text); }
std::string bold(const std::string& text) { return styled("1", text); }

std::string shell_word(const std::string& word) {
  if (!word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%") == std::string::npos) return word;
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string file_name(const std::string& path) {
  const auto p = std::filesystem::path(path).lexically_normal();
  return p.has_filename() ? p.filename().string() : p.parent_path().filename().string();
}

namespace {
std::atomic<int> interrupts{0};
void on_interrupt(int) {
  if (interrupts.fetch_add(1) > 0) ::_exit(130);
}
}  // namespace
bool interrupted() { return interrupts.load() > 0; }
void forget_interrupt() { interrupts.store(0); }
void watch_for_interrupt() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

}  // namespace tool
