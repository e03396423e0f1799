// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "peft/data/questions.hpp"
#include "peft/train/classification.hpp"

namespace peft {

/// How an answer is chosen, as transformers' run_qa does it.
struct AnswerOptions {
  std::int64_t n_best = 20;             // starts and ends of each window that are paired, and answers that are given
  std::int64_t max_answer_length = 30;  // tokens
  bool may_be_none = false;             // as in SQuAD 2: no answer is one, too, with what the windows' no_answer says,
  double null_threshold = 0;            // where its score is by more than this over the best other's
};

/// A piece of a context. Its score is the logit of its start plus that of its end; probabilities are a softmax of the scores of all that are given.
struct SpanAnswer {
  std::string text;
  std::int64_t begin = 0, end = 0;  // characters of the context; 0, 0 and no text: none
  double score = 0, probability = 0;
};
/// Answers to one question, the best first, and the one of them that is given.
struct QuestionAnswers {
  std::vector<SpanAnswer> best;
  std::size_t chosen = 0;
  const SpanAnswer& answer() const { return best[chosen]; }
};

/// The answers that logits (tokens, 2) of the windows give: pairs of the n_best starts and ends of each window, within the context, not turned round and not
/// longer than allowed.
QuestionAnswers best_answers(std::string_view context, std::span<const QuestionWindow> windows, std::span<const Tensor<float>> logits,
                             const AnswerOptions& options = {});

/// How right an answer is, as SQuAD measures: without case, punctuation, articles and runs of blanks. exact: 1 if it is one of `wanted`; f1: the largest of
/// 2 pr / (p + r) over these, p and r the parts of its words and of theirs that they have in common. Nothing wanted: 1 for no answer.
struct AnswerScore {
  double exact = 0, f1 = 0;
};
AnswerScore score_answer(std::string_view given, const std::vector<QuestionRow::Answer>& wanted);
std::string normalised_answer(std::string_view text);

/// Answers each row. Records nothing.
template <class M>
std::vector<QuestionAnswers> answer_questions(const M& model, std::span<const QuestionRow> rows, const Tokenizer& tokenizer,
                                              const QuestionOptions& windowing = {}, const AnswerOptions& options = {}) {
  constexpr std::size_t group = 32;
  std::vector<QuestionAnswers> all;
  for (std::size_t begin = 0; begin < rows.size(); begin += group) {
    const std::span<const QuestionRow> now = rows.subspan(begin, std::min(group, rows.size() - begin));
    std::vector<std::vector<QuestionWindow>> windows;
    std::vector<Example> examples;
    for (const QuestionRow& row : now) {
      windows.push_back(encode_question(row.question, row.context, tokenizer, windowing));
      for (const QuestionWindow& window : windows.back()) examples.push_back(window.example);
    }
    std::vector<Tensor<float>> logits;
    for (const auto& y : predict(model, Dataset(std::move(examples)))) {
      logits.emplace_back(y.shape());
      std::copy(y.data(), y.data() + y.size(), logits.back().data());
    }
    std::span<const Tensor<float>> left = logits;
    for (std::size_t i = 0; i < now.size(); i++) {
      all.push_back(best_answers(now[i].context, windows[i], left.first(windows[i].size()), options));
      left = left.subspan(windows[i].size());
    }
  }
  return all;
}

/// Exact match and F1 of the answers to rows that say what is right, and the loss over their windows. No answer is one where a row has none.
template <class M>
Evaluation evaluate_questions(const M& model, std::span<const QuestionRow> rows, const Tokenizer& tokenizer, const QuestionOptions& windowing = {},
                              AnswerOptions options = {}) {
  std::vector<Example> examples;
  for (const QuestionRow& row : rows) {
    if (!row.labelled) throw ConfigError("evaluate_questions", row.place + " does not say what its answer is");
    options.may_be_none |= row.answers.empty();
    for (QuestionWindow& window : encode_question(row.question, row.context, tokenizer, windowing)) {
      const auto [first, last] = answer_tokens(window, row.answers.empty() ? nullptr : &row.answers[0]);
      window.example.targets = {float(first), float(last)};
      examples.push_back(std::move(window.example));
    }
  }
  Evaluation result = evaluate(model, Dataset(std::move(examples)));
  result.scores = Scores::of_answers();
  const std::vector<QuestionAnswers> answers = answer_questions(model, rows, tokenizer, windowing, options);
  for (std::size_t i = 0; i < rows.size(); i++) {
    const AnswerScore score = score_answer(answers[i].answer().text, rows[i].answers);
    result.scores->add_answer(score.exact, score.f1);
  }
  return result;
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/train/impl/question_answering.inl"
#endif
