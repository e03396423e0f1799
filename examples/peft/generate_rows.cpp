// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <map>

#include "generate_options.hpp"
#include "labelled.hpp"
#include "progress.hpp"

namespace tool {

namespace {

// Rows of JSON, to a file that appears whole at the end or to standard output at once.
class RowWriter {
 public:
  explicit RowWriter(std::string path) : path_(std::move(path)) {}
  void write(const peft::Json& row) {
    const std::string line = row.dump(-1, false, false) + "\n";
    if (path_.empty())
      fmt::print("{}", line), std::fflush(stdout);
    else
      text_ += line;
  }
  void finish() const {
    if (!path_.empty()) peft::write_text_atomically(path_, text_);
  }
  // And says what that was: beside the file, or beside the rows where someone looks on.
  void finish(std::size_t answers, std::int64_t tokens, double seconds, const std::string& more = "") const {
    finish();
    const std::string said = fmt::format("{} answers, {} tokens in {}, {:.0f} tok/s{}", answers, tokens, time_text(seconds), double(tokens) / seconds, more);
    if (!path_.empty())
      fmt::print("{}   written to {}\n", said, path_);
    else if (::isatty(2))
      fmt::print(stderr, "{}\n", said);
  }

 private:
  std::string path_, text_;
};

std::vector<peft::Json> prompt_rows(const std::string& path) {
  if (!path.ends_with(".txt")) return read_rows(path);
  std::vector<peft::Json> rows;
  for (const std::string& line : read_lines(path)) rows.emplace_back(line);
  return rows;
}

std::vector<std::int32_t> prompt_of(const peft::Json& row, std::size_t number, const peft::Tokenizer& tokenizer, const peft::GenerationConfig& config,
                                    const Opened& opened) {
  if (const auto placed = placed_prompt(opened)) return placed_question(opened, *placed, row, tokenizer);
  if (const peft::Json* messages = row.get("messages")) {
    std::vector<peft::ChatMessage> all;
    for (const peft::Json& m : messages->array()) all.push_back({m.at("role").string(), m.at("content").string()});
    return tokenizer.encode(tokenizer.apply_chat(all), {.add_special_tokens = false});
  }
  const std::string text = row.is_string() ? row.string() : text_of(row, {"prompt", "question", "instruction", "input"});
  if (text.empty())
    throw peft::ConfigError("generate", fmt::format("row {} has no prompt: none of prompt, question, instruction, input, messages is a text", number + 1));
  return peft::encode_prompt(tokenizer, text, config);
}

// A row's "adapter": a name, several, or null for the model alone; without one, what is active.
std::vector<std::string> adapters_of(const peft::Json& row, const std::vector<std::string>& active) {
  const peft::Json* wanted = row.get("adapter");
  if (!wanted) return active;
  if (wanted->is_null() || (wanted->is_string() && wanted->string().empty())) return {};
  if (wanted->is_string()) return {wanted->string()};
  std::vector<std::string> names;
  for (const peft::Json& name : wanted->array()) names.push_back(name.string());
  return names;
}

}  // namespace

void generate_rows(Opened& opened, const peft::Tokenizer& tokenizer, const GenerateOptions& o) {
  const peft::GenerationConfig config = generation_config(o, tokenizer);
  const std::vector<peft::Json> rows = prompt_rows(*o.prompts);
  std::vector<std::vector<std::int32_t>> ids;
  std::vector<std::vector<std::string>> adapters;
  const std::vector<std::string> active = opened.tuned.active_adapters();
  for (std::size_t i = 0; i < rows.size(); i++) {
    adapters.push_back(adapters_of(rows[i], active));
    opened.tuned.set_adapter(adapters.back());
    ids.push_back(prompt_of(rows[i], i, tokenizer, config, opened));
  }
  std::vector<int> list_of;
  peft::LanguageModel<float> model(opened.tuned, peft::active_lists(opened.tuned, adapters, list_of));

  // Answers come as they are ready and are written in the order of their prompts.
  const auto answers = std::size_t(config.num_return_sequences);
  RowWriter out(o.out);
  CountBar bar(!o.out.empty() || !is_terminal());
  std::map<std::size_t, peft::Json> ready;
  std::size_t done = 0, written = 0;
  std::int64_t tokens = 0, right = 0, guessed = 0;
  Draft draft(o.draft);
  const InterruptWatch watch{SIGINT};
  std::vector<peft::GenerationRequest<float>> requests;
  for (std::size_t i = 0; i < rows.size(); i++) {
    requests.push_back({ids[i], nullptr, list_of[i]});
    requests.back().on_piece = [](std::size_t, std::string_view) {
      if (InterruptWatch::interrupted()) throw Interrupted();
      return true;
    };
    requests.back().on_done = [&, i](std::size_t answer, const peft::Generation& g) {
      tokens += g.completion_tokens(), right += g.accepted_tokens, guessed += g.proposed_tokens, done++;
      bar.show(done, rows.size() * answers, tokens);
      peft::Json row = rows[i].is_object() ? rows[i] : peft::Json::make_object();
      if (rows[i].is_string()) row.set("prompt", rows[i]);
      row.set("generated", peft::Json(g.text));
      if (answers > 1) row.set("index", peft::Json(std::int64_t(answer)));
      row.set("finish_reason", peft::Json(std::string(peft::name(g.finish_reason))));
      row.set("generated_tokens", peft::Json(g.completion_tokens()));
      ready.emplace(i * answers + answer, std::move(row));
      for (; !ready.empty() && ready.begin()->first == written; written++) out.write(ready.begin()->second), ready.erase(ready.begin());
    };
  }
  try {
    if (!requests.empty()) peft::run_generation<float>(model, requests, config, &tokenizer, draft.get());
  } catch (const Interrupted&) {  // what is ready stays
    bar.clear();
    out.finish();
    throw;
  }
  bar.clear();
  out.finish(written, tokens, bar.seconds(), guesses_text(right, guessed));
}

void answer_completions(Opened& opened, const peft::Tokenizer& tokenizer, const GenerateOptions& o) {
  std::vector<peft::CompletionRequest> requests;
  for (const peft::Json& row : read_rows(*o.completions)) {
    try {
      requests.push_back(peft::completion_request(row));
    } catch (const peft::Error& error) {
      throw peft::ConfigError("generate", fmt::format("request {}: {}", requests.size() + 1, error.what()));
    }
  }
  RowWriter out(o.out);
  CountBar bar(!o.out.empty());
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < requests.size(); i++) {
    const peft::CompletionResponse response = peft::answer_completion(opened.tuned, tokenizer, requests[i]);
    out.write(peft::to_json(response));
    bar.show(i + 1, requests.size(), tokens += response.completion_tokens);
  }
  bar.clear();
  out.finish(requests.size(), tokens, bar.seconds());
}

}  // namespace tool
