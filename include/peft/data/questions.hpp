// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "peft/data/example.hpp"
#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

/// A question whose answers are pieces of a text (SQuAD, Rajpurkar et al. 2016, arXiv:1606.05250).
struct QuestionRow {
  struct Answer {
    std::string text;
    std::int64_t start = 0;  // the character of the context that it begins with
  };
  std::string question, context, id = {};
  std::vector<Answer> answers = {};  // each of them is right; none: the context does not say (SQuAD 2), or,
  bool labelled = false;             // without this, the row does not
  std::string place = {};            // "line 3", for errors
};

/// Rows of JSON lines or a JSON list:
///
///     {"question", "context", "answers": {"text": […], "answer_start": […]}}    as datasets has SQuAD; also a list of {"text", "answer_start"}
///     {"question", "context", "answer", "answer_start"}                         flat; without answer_start the answer's first place in the context
///     {"data": [{"paragraphs": [{"context", "qas": […]}]}]}                     SQuAD's own files
///
/// and, where wanted, "id" and "is_impossible". Throws FormatError naming the line: for a field that is missing, and for an answer that does not stand in its
/// context where the row says.
std::vector<QuestionRow> read_question_rows(const std::string& path);

struct QuestionOptions {
  std::int64_t max_length = 384;  // tokens of a window: the question, a part of the context, and what is put around them
  std::int64_t stride = 128;      // tokens that a window has in common with the one before
};

/// A question and as much of its context as fits.
struct QuestionWindow {
  Example example;               // without targets
  std::vector<Offsets> offsets;  // (tokens) characters of the context,
  std::int64_t begin = 0;        // of the tokens that are the context's, from this one
  std::int64_t end = 0;          // to the one ahead of this
  std::int64_t no_answer = 0;    // the token that stands for "not in this window": the first special one, [CLS]
};

/// The windows of one question. Throws Error where the question leaves no room for the context, or for more of it than the stride.
std::vector<QuestionWindow> encode_question(std::string_view question, std::string_view context, const Tokenizer& tokenizer,
                                            const QuestionOptions& options = {});

/// The first and the last token of an answer in a window, as transformers' run_qa finds them: no_answer twice, unless all of it is within.
std::pair<std::int64_t, std::int64_t> answer_tokens(const QuestionWindow& window, const QuestionRow::Answer* answer);

/// Windows for a head that answers questions: Example::targets are the first and the last token of the row's first answer. Throws FormatError for a row that
/// does not say what its answer is.
Dataset load_questions(const std::string& path, const Tokenizer& tokenizer, const QuestionOptions& options = {});

/// The characters [begin, end) of a text.
std::string_view characters_of(std::string_view text, std::size_t begin, std::size_t end);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/data/impl/questions.inl"
#endif
