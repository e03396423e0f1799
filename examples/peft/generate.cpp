// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>
#include <peft/generate/generate.hpp>

#include <iostream>
#include <iterator>
#include <memory>
#include <optional>

#include "common.hpp"

namespace tool {

namespace {

struct Options {
  ModelOptions model;
  std::optional<std::string> prompt;
  std::string system;
  std::vector<std::string> stop;
  std::int64_t max_new_tokens = 256, top_k = 0;
  double temperature = 0, top_p = 1, repetition_penalty = 1;
  std::uint64_t seed = 0;
  bool raw = false, half_cache = false;
};

peft::GenerationConfig generation_config(const Options& o) {
  peft::GenerationConfig config;
  config.max_new_tokens = o.max_new_tokens, config.temperature = o.temperature, config.top_k = o.top_k, config.top_p = o.top_p;
  config.repetition_penalty = o.repetition_penalty, config.seed = o.seed, config.stop = o.stop, config.system_prompt = o.system;
  config.half_cache = o.half_cache;
  if (o.raw) config.prompt_template = "plain";
  return config;
}

// Pieces of text as they come; Ctrl-C ends the answer.
bool write_piece(std::string_view text) {
  fmt::print("{}", text);
  std::fflush(stdout);
  return !InterruptWatch::interrupted();
}
// The text's end, and how fast it came for someone who looks on.
void finish(const peft::Generation& g) {
  fmt::print("\n");
  if (is_terminal())
    fmt::print("{}\n", dim(fmt::format("{} tokens, first after {:.2f} s, then {:.1f} tok/s", g.completion_tokens(), g.prefill_seconds, g.tokens_per_second())));
  std::fflush(stdout);
}

// A line is a turn, from a terminal or not. Ctrl-C ends an answer; where a line is awaited it ends the program, as everywhere.
void chat(Opened& opened, const peft::Tokenizer& tokenizer, const Options& o) {
  if (o.raw) throw peft::ConfigError("generate", "--raw continues a text: give it with --prompt");
  constexpr const char* help = "/reset forgets the conversation, /again answers once more, /quit ends; Ctrl-C stops an answer.";
  peft::ChatSession session{opened.tuned, tokenizer, generation_config(o)};
  const bool interactive = ::isatty(0) && is_terminal();
  if (interactive) fmt::print("{}\n{}\n", describe(opened), dim(std::string("Ask away. ") + help));
  for (std::string line;;) {
    if (interactive) fmt::print("{}", bold("> ")), std::fflush(stdout);
    if (!std::getline(std::cin, line)) break;
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (line == "/quit" || line == "/exit") return;
    if (line.empty()) continue;
    if (line == "/reset") {
      session.reset();
    } else if (line == "/help") {
      fmt::print("{}\n", help);
    } else if (line[0] == '/' && line != "/again") {
      const std::vector<std::string> commands = {"/reset", "/again", "/help", "/quit"};
      fmt::print("{} is no command{}\n", line, peft::did_you_mean(line, commands, "commands"));
    } else {
      try {
        const InterruptWatch watch{SIGINT};
        finish(line == "/again" ? session.again(write_piece) : session.say(line, write_piece));
      } catch (const peft::Error& error) {  // nothing to give again; a conversation that outgrew the model: it stands as it was
        if (!interactive) throw;
        fmt::print("{}\n", error.what());
      }
      session.config().seed++;  // drawn again, an answer is another one
    }
  }
  if (interactive) fmt::print("\n");
}

void generate(const Options& o) {
  std::string prompt = o.prompt.value_or("");
  if (prompt == "-") prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  Opened opened(o.model);
  const auto tokenizer = peft::load_tokenizer(o.model.model);
  if (!o.prompt) return chat(opened, tokenizer, o);
  const InterruptWatch watch{SIGINT};
  finish(peft::complete(opened.tuned, tokenizer, prompt, generation_config(o), write_piece));
  if (InterruptWatch::interrupted()) throw Interrupted();
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "Answer a prompt, or chat in the terminal");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command);
  command->add_option("--prompt,-p", o->prompt, "what to answer, - for all of standard input; without it, a chat");
  command->add_option("--system", o->system, "the system prompt");
  command->add_flag("--raw", o->raw, "continue the prompt as it is, without the chat template");
  command->add_option("--max-new-tokens", o->max_new_tokens, "tokens of an answer")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--temperature", o->temperature, "0: always the likeliest token")->capture_default_str()->check(CLI::NonNegativeNumber);
  command->add_option("--top-k", o->top_k, "draw from the k likeliest tokens")->capture_default_str();
  command->add_option("--top-p", o->top_p, "draw from the likeliest tokens that hold this probability")->capture_default_str();
  command->add_option("--repetition-penalty", o->repetition_penalty, "1: none; above, what was said already becomes less likely")->capture_default_str();
  command->add_option("--stop", o->stop, "end before this text; may be given again");
  command->add_flag("--half-cache", o->half_cache, "keys and values of the past as F16: half the memory of long conversations");
  command->add_option("--seed", o->seed, "of the draw; the same seed, the same text")->capture_default_str();
  command->footer(
      "Examples:\n  peft generate --model SmolLM2.gguf --prompt \"What is a torque wrench?\"\n  peft generate --model SmolLM2.gguf --adapter out/ "
      "--temperature 0.7\n\nA chat reads a turn a line, also from a file or a pipe: /reset forgets the conversation, /again answers once more, /quit ends.");
  command->callback([=] { generate(*o); });
}

}  // namespace tool
