// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <map>
#include <sstream>

#include "peft/tokenizer/unicode.hpp"
#include "peft/train/question_answering.hpp"

namespace peft {
namespace detail {

// The tokens with the n largest logits of a column, the largest first; of equals, the later one, as NumPy's reversed argsort has it.
inline std::vector<std::int64_t> largest(const Tensor<float>& logits, std::int64_t column, std::int64_t n) {
  std::vector<std::int64_t> order(std::size_t(logits.rows()));
  for (std::size_t i = 0; i < order.size(); i++) order[i] = std::int64_t(i);
  const auto count = std::min<std::ptrdiff_t>(n, std::ssize(order));
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](std::int64_t a, std::int64_t b) { return logits(a, column) != logits(b, column) ? logits(a, column) > logits(b, column) : a > b; });
  order.resize(std::size_t(count));
  return order;
}

inline std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

inline AnswerScore score_normalised(const std::string& given, const std::string& wanted) {
  const std::vector<std::string> a = words_of(given), b = words_of(wanted);
  AnswerScore score{.exact = given == wanted ? 1.0 : 0.0};
  if (a.empty() || b.empty()) {
    score.f1 = score.exact;
    return score;
  }
  std::map<std::string, std::int64_t> left;
  for (const std::string& word : b) left[word]++;
  double common = 0;
  for (const std::string& word : a)
    if (const auto found = left.find(word); found != left.end() && found->second > 0) found->second--, common++;
  if (common > 0) score.f1 = 2 * common / double(a.size() + b.size());
  return score;
}

}  // namespace detail

PEFT_INLINE QuestionAnswers best_answers(std::string_view context, std::span<const QuestionWindow> windows, std::span<const Tensor<float>> logits,
                                         const AnswerOptions& options) {
  if (options.n_best < 1) throw ConfigError("best_answers", "n_best is " + std::to_string(options.n_best) + "; at least 1 is wanted");
  if (options.max_answer_length < 1)
    throw ConfigError("best_answers", "max_answer_length is " + std::to_string(options.max_answer_length) + "; at least 1 is wanted");
  if (windows.size() != logits.size() || windows.empty())
    throw ShapeError("best_answers", std::to_string(windows.size()) + " windows and logits of " + std::to_string(logits.size()));
  std::vector<SpanAnswer> all;
  SpanAnswer none;  // the window that is least sure of it
  for (std::size_t i = 0; i < windows.size(); i++) {
    const QuestionWindow& w = windows[i];
    const Tensor<float>& y = logits[i];
    if (y.shape() != Shape{w.example.tokens(), 2})
      throw ShapeError("best_answers", "logits " + to_string(y.shape()) + " of a window of " + std::to_string(w.example.tokens()) + " tokens");
    const double null_score = double(y(w.no_answer, 0)) + double(y(w.no_answer, 1));
    if (i == 0 || null_score < none.score) none.score = null_score;
    const auto within = [&](std::int64_t token) { return token >= w.begin && token < w.end; };
    const std::vector<std::int64_t> starts = detail::largest(y, 0, options.n_best), ends = detail::largest(y, 1, options.n_best);
    for (const std::int64_t first : starts)
      for (const std::int64_t last : ends) {
        if (!within(first) || !within(last) || last < first || last - first + 1 > options.max_answer_length) continue;
        SpanAnswer answer;
        answer.begin = std::int64_t(w.offsets[std::size_t(first)].begin), answer.end = std::int64_t(w.offsets[std::size_t(last)].end);
        answer.score = double(y(first, 0)) + double(y(last, 1));
        all.push_back(std::move(answer));
      }
  }
  const bool with_none = options.may_be_none || all.empty();
  if (with_none) all.push_back(none);
  std::ranges::stable_sort(all, std::greater<>(), &SpanAnswer::score);
  if (std::ssize(all) > options.n_best) all.resize(std::size_t(options.n_best));
  const auto is_none = [](const SpanAnswer& answer) { return answer.end == 0; };
  if (with_none && std::ranges::none_of(all, is_none)) all.push_back(none);
  double sum = 0;
  for (SpanAnswer& answer : all) {
    answer.text = std::string(characters_of(context, std::size_t(answer.begin), std::size_t(std::max(answer.begin, answer.end))));
    sum += answer.probability = std::exp(answer.score - all[0].score);
  }
  for (SpanAnswer& answer : all) answer.probability /= sum;
  QuestionAnswers result;
  result.best = std::move(all);
  if (with_none) {
    const auto other = std::ranges::find_if_not(result.best, is_none);
    const auto null = std::ranges::find_if(result.best, is_none);
    const bool found = other != result.best.end() && none.score - other->score <= options.null_threshold;
    result.chosen = std::size_t((found ? other : null) - result.best.begin());
  }
  return result;
}

PEFT_INLINE std::string normalised_answer(std::string_view text) {
  const std::string lower = unicode::lowercase(text);
  std::string joined, run;  // what is done; letters and digits side by side, which may be an article
  bool blank = false;
  const auto put = [&](std::string_view piece) {
    if (blank && !joined.empty()) joined += ' ';
    joined += piece, blank = false;
  };
  const auto end_run = [&] {
    if (run == "a" || run == "an" || run == "the")
      blank = true;
    else if (!run.empty())
      put(run);
    run.clear();
  };
  for (std::size_t at = 0; at < lower.size();) {
    const unicode::Character c = unicode::decode(lower, at);
    const std::string_view bytes = std::string_view(lower).substr(at, c.length);
    at += c.length;
    // Python's string.punctuation: ASCII's.
    if (c.value < 0x80 && c.value > ' ' && c.value != 0x7F && !unicode::is(c.value, unicode::letter | unicode::number)) continue;
    if (unicode::is(c.value, unicode::letter | unicode::number)) {
      run += bytes;
      continue;
    }
    end_run();
    if (unicode::is(c.value, unicode::space))
      blank = true;
    else
      put(bytes);
  }
  end_run();
  return joined;
}

PEFT_INLINE AnswerScore score_answer(std::string_view given, const std::vector<QuestionRow::Answer>& wanted) {
  const std::string answer = normalised_answer(given);
  std::vector<std::string> right;
  for (const QuestionRow::Answer& one : wanted)
    if (std::string text = normalised_answer(one.text); !text.empty()) right.push_back(std::move(text));
  if (right.empty()) right.emplace_back();
  AnswerScore best;
  for (const std::string& text : right) {
    const AnswerScore score = detail::score_normalised(answer, text);
    best.exact = std::max(best.exact, score.exact), best.f1 = std::max(best.f1, score.f1);
  }
  return best;
}

}  // namespace peft
