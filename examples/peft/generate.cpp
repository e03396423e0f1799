// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/generate/generate.hpp>
#include <unistd.h>

#include <iostream>
#include <memory>

#include "common.hpp"

namespace tool {

namespace {

struct Options {
  ModelOptions model;
  std::string prompt, system;
  std::vector<std::string> stop;
  std::int64_t max_new_tokens = 256, top_k = 0;
  double temperature = 0, top_p = 1, repetition_penalty = 1;
  std::uint64_t seed = 0;
  bool raw = false;
};

peft::GenerationConfig generation_config(const Options& o) {
  peft::GenerationConfig config;
  config.max_new_tokens = o.max_new_tokens, config.temperature = o.temperature, config.top_k = o.top_k, config.top_p = o.top_p;
  config.repetition_penalty = o.repetition_penalty, config.seed = o.seed, config.stop = o.stop, config.system_prompt = o.system;
  if (o.raw) config.prompt_template = "plain";
  return config;
}

// Pieces of text as they come; Ctrl-C ends the answer, not the program.
bool write_piece(std::string_view text) {
  fmt::print("{}", text);
  std::fflush(stdout);
  return !interrupted();
}
std::string speed(const peft::Generation& g) {
  return dim(fmt::format("{} tokens, first after {:.2f} s, then {:.1f} tok/s", g.completion_tokens(), g.prefill_seconds, g.tokens_per_second()));
}

void chat(Opened& opened, const peft::Tokenizer& tokenizer, const Options& o) {
  peft::ChatSession session{opened.tuned, tokenizer, generation_config(o)};
  const bool interactive = ::isatty(0);
  if (interactive) fmt::print("{}\n", dim("Ask away. /reset forgets the conversation, /quit ends; Ctrl-C stops an answer."));
  for (std::string line;;) {
    if (interactive) fmt::print("{}", bold("> ")), std::fflush(stdout);
    if (!std::getline(std::cin, line) || line == "/quit" || line == "/exit") break;
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (line == "/reset") {
      session.reset();
      continue;
    }
    if (line[0] == '/') {
      fmt::print("{} is no command; there are /reset and /quit\n", line);
      continue;
    }
    forget_interrupt();
    const peft::Generation answer = session.say(line, write_piece);
    fmt::print("\n{}\n", speed(answer));
  }
}

void generate(const Options& o) {
  Opened opened(o.model);
  const auto tokenizer = peft::load_tokenizer(o.model.model);
  watch_for_interrupt();
  if (o.prompt.empty()) return chat(opened, tokenizer, o);
  const peft::Generation answer = peft::complete(opened.tuned, tokenizer, o.prompt, generation_config(o), write_piece);
  fmt::print("\n");
  if (is_terminal()) fmt::print("{}\n", speed(answer));
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "Answer a prompt, or chat in the terminal");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command);
  command->add_option("--prompt,-p", o->prompt, "what to answer; without it, a chat");
  command->add_option("--system", o->system, "the system prompt");
  command->add_flag("--raw", o->raw, "continue the prompt as it is, without the chat template");
  command->add_option("--max-new-tokens", o->max_new_tokens)->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--temperature", o->temperature, "0: always the likeliest token")->capture_default_str()->check(CLI::NonNegativeNumber);
  command->add_option("--top-k", o->top_k, "draw from the k likeliest tokens")->capture_default_str();
  command->add_option("--top-p", o->top_p, "draw from the likeliest tokens that hold this probability")->capture_default_str();
  command->add_option("--repetition-penalty", o->repetition_penalty)->capture_default_str();
  command->add_option("--stop", o->stop, "end before this text; may be given again");
  command->add_option("--seed", o->seed)->capture_default_str();
  command->footer("Examples:\n  peft generate --model SmolLM2.gguf --prompt \"What is a torque wrench?\"\n  peft generate --model SmolLM2.gguf --adapter out/ --temperature 0.7   (a chat)");
  command->callback([=] { generate(*o); });
}

}  // namespace tool
