// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/data/formats.hpp>
#include <peft/generate/generate.hpp>
#include <peft/io/json.hpp>
#include <peft/train/objective.hpp>

#include <fstream>
#include <memory>

#include "common.hpp"

namespace tool {

namespace {

// Letters in lower case, runs of white space as one blank: what two spellings of an answer have in common.
std::string normalised(const std::string& text) {
  std::string out;
  for (char c : text) {
    const bool blank = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (blank && (out.empty() || out.back() == ' ')) continue;
    out += blank ? ' ' : c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  }
  while (!out.empty() && (out.back() == ' ' || out.back() == '.')) out.pop_back();
  return out;
}

// Questions and what their answers must hold, from rows of {"question", "answer"} or {"prompt", "completion"}, with "fact" where there is one.
std::vector<QuestionResult> read_questions(const std::string& path, std::vector<std::string>& answers) {
  std::vector<QuestionResult> all;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const peft::Json row = peft::Json::parse(line, path);
    const auto first = [&](std::initializer_list<const char*> names) {
      for (const char* name : names)
        if (const auto* value = row.get(name); value && value->is_string()) return value->string();
      return std::string();
    };
    QuestionResult q;
    q.question = first({"question", "prompt", "instruction"}), q.wanted = first({"fact", "answer", "completion", "output"});
    answers.push_back(first({"answer", "completion", "output"}));
    if (!q.question.empty()) all.push_back(std::move(q));
  }
  return all;
}

struct Options {
  ModelOptions model;
  std::string data;
  std::int64_t show = 0, max_new_tokens = 48;
  bool loss_only = false;
};

void eval(const Options& o) {
  Opened opened(o.model);
  const auto tokenizer = peft::load_tokenizer(o.model.model);
  fmt::print("{}\n", describe(opened));
  const EvalResult result = evaluate_questions(opened, tokenizer, o.data, o.max_new_tokens, !o.loss_only);
  // Shown are questions from all over the file.
  const std::size_t count = result.questions.size();
  for (std::int64_t i = 0; i < o.show && i < std::int64_t(count); i++) {
    const QuestionResult& q = result.questions[(std::size_t(i) * 2 + 1) * count / (2 * std::size_t(std::min<std::int64_t>(o.show, std::int64_t(count))))];
    std::string answer = q.answer.substr(0, q.answer.find('\n'));
    if (answer.size() > 160) answer = answer.substr(0, answer.find_last_of(' ', 157)) + " …";
    fmt::print("\n  {}  {}\n  {}  {} {}\n", dim("asked "), q.question, dim("answer"), answer, q.right ? "✓" : dim("(right: " + q.wanted + ")"));
  }
  if (o.show > 0) fmt::print("\n");
  fmt::print("eval   loss {:.3f}   perplexity {:.2f}", result.loss, result.perplexity);
  if (!result.questions.empty()) fmt::print("   exact fact {} of {} = {}", result.right, count, bold(fmt::format("{:.1f} %", result.accuracy())));
  fmt::print("\n");
}

}  // namespace

EvalResult evaluate_questions(Opened& opened, const peft::Tokenizer& tokenizer, const std::string& data, std::int64_t max_new_tokens, bool answers) {
  EvalResult result;
  const auto dataset = peft::load_dataset(data, tokenizer);
  const auto loss = peft::evaluate(opened.tuned, dataset);
  result.loss = loss.loss, result.perplexity = loss.perplexity(), result.tokens = loss.tokens;
  if (!answers) return result;
  std::vector<std::string> full;
  result.questions = read_questions(data, full);
  std::vector<std::string> prompts;
  for (const auto& q : result.questions) prompts.push_back(q.question);
  if (prompts.empty()) return result;
  const auto generated = peft::complete_all(opened.tuned, tokenizer, prompts, {.max_new_tokens = max_new_tokens});
  for (std::size_t i = 0; i < generated.size(); i++) {
    QuestionResult& q = result.questions[i];
    q.answer = generated[i].text;
    q.right = !q.wanted.empty() && normalised(q.answer).find(normalised(q.wanted)) != std::string::npos;
    result.right += q.right;
  }
  return result;
}

void add_eval(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Measure loss, perplexity and exact answers on a file of questions");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command);
  command->add_option("--data,-d", o->data, "JSON lines, {\"question\", \"answer\"} and, where wanted, \"fact\": what a right answer must hold")->required()->check(CLI::ExistingFile);
  command->add_option("--show", o->show, "show this many questions with their answers")->capture_default_str();
  command->add_option("--max-new-tokens", o->max_new_tokens, "length of an answer")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_flag("--loss-only", o->loss_only, "do not generate answers");
  command->footer("Example:\n  peft eval --model SmolLM2.gguf --adapter out/ --data test.jsonl --show 4");
  command->callback([=] { eval(*o); });
}

}  // namespace tool
