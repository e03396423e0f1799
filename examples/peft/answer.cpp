// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/data/questions.hpp>
#include <peft/io/json.hpp>
#include <peft/train/question_answering.hpp>

#include <algorithm>
#include <memory>
#include <span>

#include "common.hpp"
#include "labelled.hpp"

namespace tool {

namespace {

struct Options {
  ModelOptions model;
  TaskOptions task;
  std::vector<std::string> questions;
  std::string context, data;
  std::int64_t n_best = 1, max_length = peft::QuestionOptions().max_length;
};

std::vector<peft::QuestionRow> rows_to_answer(const Options& o) {
  if (o.data.empty() == o.questions.empty()) throw peft::ConfigError("answer", "give --question and --context, or --data with rows of them");
  if (!o.data.empty()) return peft::read_question_rows(o.data);
  if (o.context.empty()) throw peft::ConfigError("answer", "no --context; an answer is a piece of it");
  std::vector<peft::QuestionRow> rows;
  for (const std::string& question : o.questions) rows.push_back({.question = question, .context = o.context});
  return rows;
}

void set_answer(peft::Json& said, const peft::SpanAnswer& answer) {
  said.set("answer", peft::Json(answer.text));
  said.set("start", peft::Json(answer.begin)), said.set("end", peft::Json(answer.end));
  said.set("score", peft::Json(answer.score)), said.set("probability", peft::Json(answer.probability));
}

peft::Json line_of(const peft::QuestionRow& row, const peft::QuestionAnswers& answers, std::int64_t n_best) {
  peft::Json said = peft::Json::make_object();
  if (!row.id.empty()) said.set("id", peft::Json(row.id));
  said.set("question", peft::Json(row.question));
  set_answer(said, answers.answer());
  if (n_best > 1) {
    peft::Json best = peft::Json::make_array();
    for (std::size_t i = 0; i < std::min(answers.best.size(), std::size_t(n_best)); i++) {
      peft::Json one = peft::Json::make_object();
      set_answer(one, answers.best[i]);
      best.push_back(std::move(one));
    }
    said.set("best", std::move(best));
  }
  if (row.labelled) {
    peft::Json wanted = peft::Json::make_array();
    for (const auto& answer : row.answers) wanted.push_back(peft::Json(answer.text));
    said.set("wanted", std::move(wanted));
  }
  return said;
}

void answer(const Options& o) {
  Opened opened(o.model);
  if (!answers_questions(opened))
    throw peft::ConfigError("answer", "this model finds no answers in texts; train an adapter with --task question_ans, and name it with --adapter");
  const auto tokenizer = peft::load_tokenizer(o.model.model);
  peft::AnswerOptions options = o.task.answers;
  options.n_best = std::max(options.n_best, o.n_best);
  const std::vector<peft::QuestionRow> rows = rows_to_answer(o);
  constexpr std::size_t group = 64;
  for (std::size_t begin = 0; begin < rows.size(); begin += group) {
    const std::span now = std::span(rows).subspan(begin, std::min(group, rows.size() - begin));
    const auto answers = peft::answer_questions(opened.tuned, now, tokenizer, windows_of(opened, o.task, o.max_length), options);
    for (std::size_t i = 0; i < now.size(); i++) fmt::print("{}\n", line_of(now[i], answers[i], o.n_best).dump(-1, false, false));
    std::fflush(stdout);
  }
}

}  // namespace

void add_answer(CLI::App& app) {
  auto* command = app.add_subcommand("answer", "Find answers to questions in texts, with a head that was trained for it");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command);
  command->add_option("--question,-q", o->questions, "a question; give it again for each");
  command->add_option("--context,-c", o->context, "the text that holds the answers");
  command->add_option("--data,-d", o->data, "rows as train takes them, with answers or without")->check(CLI::ExistingFile);
  command->add_option("--best", o->n_best, "show so many answers to each")->capture_default_str()->check(above_zero());
  command->add_option("--max-length", o->max_length, "tokens of a question with a part of its context")->capture_default_str()->check(above_zero());
  command->add_flag("--may-be-none", o->task.answers.may_be_none, "a context may have no answer, as in SQuAD 2")->group("Answers");
  o->task.add_answers_to(*command);
  command->footer("Example:\n  peft answer --model bert-base/ --adapter squad/ --question \"Who came?\" --context \"Anna came on Monday.\"");
  command->callback([=] { answer(*o); });
}

}  // namespace tool
