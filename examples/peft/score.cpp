// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/generate/generate.hpp>

#include <fstream>
#include <iterator>

#include "common.hpp"
#include "progress.hpp"

namespace tool {

namespace {

struct ScoreOptions {
  ModelOptions model;
  std::string prompt, data;
  std::vector<std::string> choices;
  bool sum = false;
};

// Rows with "prompt", "choices" and perhaps "answer", the right one's text or number: each is ranked, and the right ones are counted.
void score_rows(const ScoreOptions& o, const Opened& opened, const peft::Tokenizer& tokenizer) {
  std::size_t right = 0, judged = 0;
  for (const peft::Json& row : read_rows(o.data)) {
    std::vector<std::string> choices;
    for (const peft::Json& c : row.at("choices").array()) choices.push_back(c.string());
    if (choices.empty()) throw peft::ConfigError("score", "a row without choices: " + row.dump().substr(0, 60));
    const auto ranked = peft::rank_choices(opened.tuned, tokenizer, text_of(row, {"prompt", "question"}), choices, !o.sum);
    peft::Json said = row, scores = peft::Json::make_array();
    std::vector<double> by_choice(choices.size());
    for (const auto& r : ranked) by_choice[r.index] = r.value;
    for (double s : by_choice) scores.push_back(peft::Json(s));
    said.set("best", peft::Json(std::int64_t(ranked[0].index))), said.set("scores", std::move(scores));
    if (const peft::Json* answer = row.get("answer")) {
      judged++;
      right += answer->is_string() ? choices[ranked[0].index] == answer->string() : answer->integer() == std::int64_t(ranked[0].index);
    }
    fmt::print("{}\n", said.dump(-1, false, false));
  }
  if (judged > 0) fmt::print(stderr, "right {} of {} = {:.1f} %\n", right, judged, 100.0 * double(right) / double(judged));
}

void score(const ScoreOptions& o) {
  if (o.data.empty() == o.choices.empty()) throw peft::ConfigError("score", "give --choice with --prompt, or --data with rows of them");
  Opened opened(o.model);
  const auto tokenizer = peft::load_tokenizer(o.model.model);
  if (!o.data.empty()) return score_rows(o, opened, tokenizer);
  for (const auto& r : peft::rank_choices(opened.tuned, tokenizer, o.prompt, o.choices, !o.sum))
    fmt::print("{:9.4f}  {}  {}\n", r.value, o.choices[r.index],
               dim(fmt::format("log p {:.4f} of {} tokens{}", r.score.sum(), r.score.ids.size(), r.score.is_greedy ? ", what the model would say" : "")));
}

struct PerplexityCommand {
  ModelOptions model;
  std::string data;
  std::int64_t max_length = 0, stride = 0;
};

void measure(const PerplexityCommand& o) {
  std::ifstream file(o.data, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  Opened opened(o.model);
  const auto tokenizer = peft::load_tokenizer(o.model.model);
  fmt::print("{}\n", describe(opened));
  std::fflush(stdout);
  CountBar bar;
  peft::PerplexityOptions options{.max_length = o.max_length, .stride = o.stride};
  options.on_progress = [&](std::int64_t done, std::int64_t all) { bar.show(std::size_t(done), std::size_t(all), done); };
  const peft::Perplexity p = peft::perplexity(opened.tuned, tokenizer, text, options);
  bar.clear();
  fmt::print("perplexity {}   {:.4f} nats a token, {:.4f} bits a byte   {} tokens predicted, {:.0f} tok/s\n", bold(fmt::format("{:.4f}", p.value())),
             p.negative_log_likelihood / double(p.tokens), p.bits_per_byte(), p.tokens, double(p.tokens) / bar.seconds());
}

void add_score_options(CLI::App& command, ScoreOptions& o) {
  command.add_option("--prompt,-p", o.prompt, "what stands in front, as it is");
  command.add_option("--choice,-c", o.choices, "a continuation, usually with a space in front; give it again for each");
  command.add_option("--data,-d", o.data, "rows of JSON with prompt, choices, and perhaps the right answer (its text, or its number from 0)")
      ->check(CLI::ExistingFile);
  command.add_flag("--sum", o.sum, "rank by the probability of the whole; otherwise by the mean over its tokens");
}

void add_perplexity_options(CLI::App& command, PerplexityCommand& o) {
  command.add_option("--data,-d", o.data, "a file of plain text")->required()->check(CLI::ExistingFile);
  command.add_option("--max-length", o.max_length, "tokens of a window (the model's context, 1024 at most)")->check(above_zero());
  command.add_option("--stride", o.stride, "tokens from one window to the next: a small one gives every token more in front (half the window)")
      ->check(above_zero());
}

}  // namespace

void add_score(CLI::App& app) {
  add_command<ScoreOptions>(app, "score", "Rank choices by how likely a model finds them behind a prompt", score, add_score_options,
                            "Example:\n  peft score --model SmolLM2.gguf --prompt \"The capital of France is\" --choice \" Paris\" --choice \" Rome\"");
}

void add_perplexity(CLI::App& app) {
  add_command<PerplexityCommand>(app, "perplexity", "Measure how well a model predicts a text", measure, add_perplexity_options,
                                 "Example:\n  peft perplexity --model SmolLM2.gguf --data book.txt --stride 256");
}

}  // namespace tool
