// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/core/error.hpp"
#include "peft/data/impl/formats.inl"
#include "peft/data/impl/labelled.inl"
#include "peft/data/questions.hpp"
#include "peft/io/json.hpp"

namespace peft {
namespace data::detail {

/// One question of a file, and what is wrong with it.
class QuestionReader {
 public:
  QuestionReader(const std::string& path, std::string place) : path_(path), place_(std::move(place)) {}

  FormatError error(const std::string& what) const { return FormatError(path_, -1, place_ + " " + what); }
  const std::string& text(const Json& row, const char* key) const {
    const Json* value = row.get(key);
    if (!value || !value->is_string())
      throw error(std::string("has no text \"") + key + "\"; a row has \"question\", \"context\" and \"answers\": {\"text\", \"answer_start\"}");
    return value->string();
  }
  const std::vector<Json>& list(const Json& row, const char* key) const {
    const Json* value = row.get(key);
    if (!value || !value->is_array()) throw error(std::string("has no list \"") + key + "\"");
    return value->array();
  }

  QuestionRow read(const Json& row, const std::string& context) const {
    QuestionRow r{.question = text(row, "question"), .context = context, .place = place_};
    if (const Json* id = row.get("id")) r.id = id->is_string() ? id->string() : id->dump();
    const auto add = [&](const std::string& answer, const Json* start) {
      if (!answer.empty()) r.answers.push_back({answer, place_of(answer, r.context, start)});
    };
    const Json *answers = row.get("answers"), *impossible = row.get("is_impossible");
    if (answers && answers->is_object()) {
      const std::vector<Json>&texts = list(*answers, "text"), &starts = list(*answers, "answer_start");
      if (texts.size() != starts.size()) throw error("has " + std::to_string(texts.size()) + " answers and " + std::to_string(starts.size()) + " places");
      for (std::size_t i = 0; i < texts.size(); i++) add(as_text(texts[i]), &starts[i]);
    } else if (answers && answers->is_array()) {
      for (const Json& answer : answers->array()) add(answer.is_string() ? answer.string() : text(answer, "text"), answer.get("answer_start"));
    } else if (answers && !answers->is_null()) {
      throw error("has \"answers\" that are neither {\"text\": […], \"answer_start\": […]} nor a list");
    }
    const Json* flat = row.get("answer") ? row.get("answer") : row.get("answer_text");
    if (!answers && flat && !flat->is_null()) add(as_text(*flat), row.get("answer_start"));
    r.labelled = (answers && !answers->is_null()) || flat || impossible;
    if (impossible && impossible->is_boolean() && impossible->boolean()) r.answers.clear();  // SQuAD 2 names what only looks like one
    return r;
  }

 private:
  const std::string& as_text(const Json& value) const {
    if (!value.is_string()) throw error("has an answer that is not a text");
    return value.string();
  }
  std::int64_t place_of(const std::string& answer, const std::string& context, const Json* start) const {
    if (!start || start->is_null()) {
      const std::size_t at = context.find(answer);
      if (at == context.npos) throw error("has the answer \"" + answer + "\", which is not in its context");
      return static_cast<std::int64_t>(characters(std::string_view(context).substr(0, at)));
    }
    if (!start->is_integer()) throw error("has an \"answer_start\" that is not an integer");
    const std::int64_t n = start->integer();
    const auto from = static_cast<std::size_t>(n);
    if (n < 0 || characters_of(context, from, from + characters(answer)) != answer)
      throw error("has the answer \"" + answer + "\", which does not stand at character " + std::to_string(n) + " of its context");
    return n;
  }

  const std::string& path_;
  std::string place_;
};

}  // namespace data::detail

PEFT_INLINE std::string_view characters_of(std::string_view text, std::size_t begin, std::size_t end) {
  std::size_t at = 0, count = 0;
  const auto to = [&](std::size_t character) {
    while (at < text.size() && count < character) {
      do at++;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
      count++;
    }
    return at;
  };
  const std::size_t from = to(begin);
  return text.substr(from, to(end) - from);
}

PEFT_INLINE std::vector<QuestionRow> read_question_rows(const std::string& path) {
  std::vector<QuestionRow> rows;
  const auto read = [&](const Json& json, const std::string& place) {
    const data::detail::QuestionReader reader(path, place);
    if (!json.is_object()) throw reader.error("is not an object {…}");
    if (!json.contains("data")) {
      rows.push_back(reader.read(json, reader.text(json, "context")));
      return;
    }
    for (const Json& article : reader.list(json, "data"))
      for (const Json& paragraph : reader.list(article, "paragraphs"))
        for (const Json& question : reader.list(paragraph, "qas")) {
          const Json* id = question.get("id");
          const data::detail::QuestionReader one(path, id && id->is_string() ? "question " + id->string() : place);
          rows.push_back(one.read(question, one.text(paragraph, "context")));
        }
  };
  data::detail::for_each_row(path, read);
  if (rows.empty()) throw FormatError(path, -1, "has no rows");
  return rows;
}

PEFT_INLINE std::vector<QuestionWindow> encode_question(std::string_view question, std::string_view context, const Tokenizer& tokenizer,
                                                        const QuestionOptions& options) {
  data::detail::check_max_length(options.max_length);
  if (options.stride < 0) throw ConfigError("encode_question", "stride is " + std::to_string(options.stride) + "; it must be at least 0");
  // Some questions begin with blanks, which would cost tokens and say nothing.
  question.remove_prefix(std::min(question.find_first_not_of(" \t\n\r\v\f"), question.size()));
  const Truncation truncation{.max_length = static_cast<std::size_t>(options.max_length), .strategy = Truncation::Strategy::only_second};
  std::vector<QuestionWindow> windows;
  for (Encoding& encoding : tokenizer.encode_windows(question, context, {.truncation = truncation}, static_cast<std::size_t>(options.stride))) {
    QuestionWindow w;
    w.offsets = encoding.offsets;
    const auto of_context = [](std::int32_t sequence) { return sequence == 1; };
    w.begin = std::ranges::find_if(encoding.sequence, of_context) - encoding.sequence.begin();
    w.end = w.begin + std::ranges::count_if(encoding.sequence, of_context);
    const auto special = std::ranges::find_if(encoding.special, [](std::uint8_t is) { return is != 0; });
    w.no_answer = special == encoding.special.end() ? 0 : special - encoding.special.begin();
    w.example = data::detail::example_of(std::move(encoding));
    windows.push_back(std::move(w));
  }
  return windows;
}

PEFT_INLINE std::pair<std::int64_t, std::int64_t> answer_tokens(const QuestionWindow& window, const QuestionRow::Answer* answer) {
  const std::pair nowhere(window.no_answer, window.no_answer);
  if (!answer || window.begin == window.end) return nowhere;
  const auto at = [&](std::int64_t token) { return window.offsets[static_cast<std::size_t>(token)]; };
  const auto begin = static_cast<std::size_t>(answer->start), end = begin + data::detail::characters(answer->text);
  if (at(window.begin).begin > begin || at(window.end - 1).end < end) return nowhere;
  std::int64_t first = window.begin, last = window.end - 1;
  while (first + 1 < window.end && at(first + 1).begin <= begin) first++;
  while (last - 1 >= window.begin && at(last - 1).end >= end) last--;
  return {first, last};
}

PEFT_INLINE Dataset load_questions(const std::string& path, const Tokenizer& tokenizer, const QuestionOptions& options) {
  DatasetReport report;
  report.format = "question_answering";
  std::vector<Example> examples;
  for (const QuestionRow& row : read_question_rows(path)) {
    report.rows++;
    if (!row.labelled) throw FormatError(path, -1, row.place + " has no \"answers\", not even an empty list of them");
    try {
      for (QuestionWindow& window : encode_question(row.question, row.context, tokenizer, options)) {
        const auto [first, last] = answer_tokens(window, row.answers.empty() ? nullptr : &row.answers[0]);
        window.example.targets = {float(first), float(last)};
        examples.push_back(std::move(window.example));
      }
    } catch (const ConfigError&) {
      throw;
    } catch (const Error& error) {
      throw FormatError(path, -1, row.place + ": " + error.what());
    }
  }
  return Dataset(std::move(examples), std::move(report));
}

}  // namespace peft
