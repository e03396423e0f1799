// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/generate/generate.hpp>
#include <peft/io/json.hpp>
#include <peft/train/objective.hpp>

#include <algorithm>
#include <memory>
#include <span>

#include "common.hpp"
#include "labelled.hpp"

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

struct Question {
  std::string text, wanted, answer;
  std::vector<std::int32_t> prompt;  // as training shows it: what stands ahead of the answer's tokens
  bool right = false;
};

// A row's question is all that stands ahead of its last answer, or the source of a pair; what is wanted is its "fact", or else that answer.
std::vector<Question> questions_of(const std::string& path, const peft::Dataset& data, const peft::Tokenizer& tokenizer) {
  const std::vector<peft::Json> rows = read_rows(path);
  if (rows.size() != data.size())
    throw peft::ConfigError(
        "eval", path + ": " + std::to_string(rows.size() - data.size()) + " rows have no answer to compare with; --loss-only leaves the answers out");
  std::vector<Question> all;
  for (std::size_t i = 0; i < rows.size(); i++) {
    const peft::Example& example = data[i];
    std::size_t end = example.labels.size();
    while (end > 0 && example.labels[end - 1] == peft::ignore_index) end--;
    std::size_t begin = end;
    while (begin > 0 && example.labels[begin - 1] != peft::ignore_index) begin--;
    Question q;
    if (data.has_sources())
      q.prompt = example.source_ids;
    else
      q.prompt.assign(example.input_ids.begin(), example.input_ids.begin() + std::ptrdiff_t(begin));
    q.wanted = text_of(rows[i], {"fact"});
    if (q.wanted.empty()) q.wanted = tokenizer.decode(std::span(example.input_ids).subspan(begin, end - begin));
    q.text = text_of(rows[i], {"question", "prompt", "instruction", "input"});
    if (q.text.empty()) q.text = tokenizer.decode(q.prompt);
    all.push_back(std::move(q));
  }
  return all;
}

// On a terminal a line says how far it is: answers take a while.
void answer(std::vector<Question>& questions, const Opened& opened, const peft::Tokenizer& tokenizer, std::int64_t max_new_tokens) {
  peft::GenerationConfig config;
  config.max_new_tokens = max_new_tokens;
  config.eos_token_ids = peft::eos_token_ids(config, opened.base.config, &tokenizer);
  constexpr std::size_t group = 48;
  for (std::size_t begin = 0; begin < questions.size(); begin += group) {
    if (is_terminal()) fmt::print("\r{}", dim(fmt::format("answer {} of {} …", begin + 1, questions.size()))), std::fflush(stdout);
    const std::span now = std::span(questions).subspan(begin, std::min(group, questions.size() - begin));
    std::vector<std::vector<std::int32_t>> prompts;
    for (const Question& q : now) prompts.push_back(q.prompt);
    const auto generated = peft::generate_ids(opened.tuned, prompts, config);
    for (std::size_t i = 0; i < now.size(); i++) {
      now[i].answer = tokenizer.decode(generated[i].ids);
      const std::string wanted = normalised(now[i].wanted);
      now[i].right = !wanted.empty() && normalised(now[i].answer).find(wanted) != std::string::npos;
    }
  }
  if (is_terminal() && !questions.empty()) fmt::print("\r\033[K");
}

// A text on one line of at most `limit` characters, cut at a blank where there is one.
std::string one_line(const std::string& text, std::size_t limit) {
  std::string line;
  for (char c : text)
    if (const bool blank = c == '\n' || c == '\r' || c == '\t' || c == ' '; !blank || (!line.empty() && line.back() != ' ')) line += blank ? ' ' : c;
  std::size_t characters = 0, at = 0, last_blank = 0;
  for (; at < line.size(); at++) {
    if ((line[at] & 0xC0) == 0x80) continue;  // within a character
    if (characters++ == limit) return line.substr(0, last_blank > at / 2 ? last_blank : at) + " …";
    if (line[at] == ' ') last_blank = at;
  }
  return line;
}

struct Options {
  ModelOptions model;
  TaskOptions task;
  std::string data;
  std::int64_t show = 0, max_new_tokens = 48, max_length = std::int64_t{1} << 30;
  bool loss_only = false;
};

// A head that classifies, gives numbers, or finds answers: how many of these are right.
void eval_head(const Options& o, const Opened& opened, const peft::Tokenizer& tokenizer) {
  const auto data = load_rows(o.data, tokenizer, opened, o.task, o.max_length);
  fmt::print("{}\n", describe(opened));
  std::fflush(stdout);
  const peft::Evaluation result = evaluate_head(opened, tokenizer, o.task, o.data, data, o.max_length);
  fmt::print("eval   loss {:.3f}   {}\n", result.loss, scores_text(result));
}

// A masked language model: a row is right if the likeliest token is, at every mask.
void eval_masked(const Opened& opened, const peft::Dataset& data) {
  fmt::print("{}\n", describe(opened));
  std::fflush(stdout);
  std::size_t right = 0;
  for (std::size_t i = 0; i < data.size(); i++) {
    const peft::Tensor<float> logits = peft::predict(opened.tuned, data.subset({i})).at(0);
    bool all = true;
    for (std::size_t t = 0; t < data[i].labels.size(); t++) {
      const float* row = &logits(std::int64_t(t), 0);
      if (data[i].labels[t] != peft::ignore_index) all = all && std::max_element(row, row + logits.cols()) - row == data[i].labels[t];
    }
    right += all;
  }
  const peft::Evaluation loss = peft::evaluate(opened.tuned, data);
  fmt::print("eval   loss {:.3f}   perplexity {:.2f}   right answers {} of {} = {}\n", loss.loss, loss.perplexity(), right, data.size(),
             bold(fmt::format("{:.1f} %", 100.0 * double(right) / double(data.size()))));
}

void eval(const Options& o) {
  Opened opened(o.model);
  const auto tokenizer = tokenizer_of(o.model);
  check_chat_template(opened, o.model);
  if (has_own_head(opened)) return eval_head(o, opened, tokenizer);
  const auto& c = opened.base.config;
  const bool pairs = c.num_encoder_layers > 0;  // whose relative positions have no end
  const auto data = load_rows(o.data, tokenizer, opened, o.task, pairs ? 1 << 20 : std::max<std::int64_t>(2, c.max_position_embeddings));
  std::vector<Question> questions;
  if (c.head.task == peft::TaskType::masked_lm) return eval_masked(opened, data);
  if (!o.loss_only && data.report().format != "text") questions = questions_of(o.data, data, tokenizer);
  fmt::print("{}\n", describe(opened));
  std::fflush(stdout);
  const peft::Evaluation loss = peft::evaluate(opened.tuned, data);
  answer(questions, opened, tokenizer, o.max_new_tokens);

  // Shown are questions from all over the file.
  const std::size_t count = questions.size(), shown = std::min(std::size_t(o.show), count);
  for (std::size_t i = 0; i < shown; i++) {
    const Question& q = questions[(2 * i + 1) * count / (2 * shown)];
    fmt::print("\n  {}  {}\n  {}  {} {}\n", dim("asked "), one_line(q.text, 160), dim("answer"), one_line(q.answer, 160), q.right ? "✓" : dim("✗"));
    if (!q.right) fmt::print("  {}  {}\n", dim("wanted"), one_line(q.wanted, 160));
  }
  if (shown > 0) fmt::print("\n");
  fmt::print("eval   loss {:.3f}   perplexity {:.2f}", loss.loss, loss.perplexity());
  if (count > 0) {
    const auto right = std::count_if(questions.begin(), questions.end(), [](const Question& q) { return q.right; });
    fmt::print("   right answers {} of {} = {}", right, count, bold(fmt::format("{:.1f} %", 100.0 * double(right) / double(count))));
  }
  fmt::print("\n");
}

}  // namespace

void add_eval(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Measure loss and right answers on a file of questions, or of rows with labels or answers");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command);
  command
      ->add_option("--data,-d", o->data, "rows as train takes them; an answer is right if it holds the row's \"fact\", or the whole answer where there is none")
      ->required()
      ->check(CLI::ExistingFile);
  o->model.add_chat_template_to(*command);
  o->task.add_to(*command, false);
  command
      ->add_option("--max-length", o->max_length,
                   "tokens of a labelled row, or of a question with a part of its context (as many as the model has positions for)")
      ->check(above_zero());
  command->add_option("--show", o->show, "show this many questions with their answers")->capture_default_str()->check(zero_or_more());
  command->add_option("--max-new-tokens", o->max_new_tokens, "tokens of an answer")->capture_default_str()->check(above_zero());
  command->add_flag("--loss-only", o->loss_only, "do not generate answers");
  command->footer("Example:\n  peft eval --model SmolLM2.gguf --adapter out/ --data test.jsonl --show 4");
  command->callback([=] { eval(*o); });
}

}  // namespace tool
