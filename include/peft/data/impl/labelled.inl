// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "peft/core/error.hpp"
#include "peft/data/labelled.hpp"

namespace peft {
namespace data::detail {

/// All of a text as a number, if it is one.
inline std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// Labels of rows as numbers, or an error that names the row.
class LabelNumbers {
 public:
  LabelNumbers(const std::vector<std::string>& names, const std::string& path) : names_(names), path_(path) {}
  std::int32_t operator()(const std::string& label, const std::string& place) const {
    if (const auto found = std::ranges::find(names_, label); found != names_.end()) return std::int32_t(found - names_.begin());
    const bool named_by_numbers = std::ranges::any_of(names_, [](const std::string& name) { return number_of(name).has_value(); });
    if (const auto number = number_of(label); number && !named_by_numbers && *number >= 0 && *number < double(names_.size()) && *number == std::floor(*number))
      return std::int32_t(*number);
    throw FormatError(path_, -1, place + " has the label \"" + label + "\"" + did_you_mean(label, names_, "the labels are"));
  }

 private:
  const std::vector<std::string>& names_;
  const std::string& path_;
};

inline void check_max_length(std::int64_t max_length) {
  if (max_length < 2) throw ConfigError("labelled data", "max_length is " + std::to_string(max_length) + "; it must be at least 2");
}

inline Example example_of(Encoding encoding) {
  Example example;
  example.input_ids = std::move(encoding.ids);
  example.labels.assign(example.input_ids.size(), ignore_index);
  if (std::ranges::any_of(encoding.type_ids, [](std::int32_t type) { return type != 0; })) example.token_types = std::move(encoding.type_ids);
  return example;
}

/// The encoding, cut where it is longer; says so.
template <class Encode>
Encoding encode_within(std::int64_t max_length, bool* cut, Encode encode) {
  Encoding encoding = encode(EncodeOptions{});
  const bool longer = static_cast<std::int64_t>(encoding.size()) > max_length;
  if (cut) *cut = longer;
  return longer ? encode(EncodeOptions{.truncation = Truncation{.max_length = static_cast<std::size_t>(max_length)}}) : encoding;
}

inline Example encode_sequence_within(std::string_view text, const std::optional<std::string>& text_pair, const Tokenizer& tokenizer, std::int64_t max_length,
                                      bool* cut) {
  return example_of(encode_within(max_length, cut, [&](const EncodeOptions& options) {
    return text_pair ? tokenizer.encode_pair(text, *text_pair, options) : tokenizer.encode_full(text, options);
  }));
}

inline Example placed_sequence_within(std::string_view text, const std::optional<std::string>& text_pair, const Tokenizer& tokenizer,
                                      const PlacedPrompt& prompt, std::int64_t max_length, bool* cut) {
  const RowFields fields = [&](const std::string& name) {
    if (name != "text" && !(name == "text_pair" && text_pair))
      throw ConfigError("token_template", "{" + name + "}; rows with labels have " + (text_pair ? "{text} and {text_pair}" : "{text}"));
    return name == "text" ? std::string(text) : *text_pair;
  };
  Example whole = prompt.encode(fields, tokenizer, std::int64_t{1} << 40);
  const bool longer = whole.tokens() > max_length;
  if (cut) *cut = longer;
  return longer ? prompt.encode(fields, tokenizer, max_length) : whole;
}

/// Code points of a text; bytes that begin none belong to the one before.
inline std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

inline Example encode_words_within(const std::vector<std::string>& words, const std::vector<std::int32_t>& labels, const Tokenizer& tokenizer,
                                   std::int64_t max_length, std::vector<std::int64_t>* first_tokens, bool* cut) {
  if (!labels.empty() && labels.size() != words.size())
    throw Error("encode_words", std::to_string(words.size()) + " words and " + std::to_string(labels.size()) + " labels");
  std::string text;
  std::vector<std::size_t> ends;  // of words, in characters
  std::size_t characters_so_far = 0;
  for (const std::string& word : words) {
    if (!ends.empty()) text += ' ', characters_so_far++;
    text += word;
    ends.push_back(characters_so_far += characters(word));
  }
  Encoding encoding = encode_within(max_length, cut, [&](const EncodeOptions& options) { return tokenizer.encode_full(text, options); });
  std::vector<std::int64_t> first(words.size(), -1);
  for (std::size_t i = 0; i < encoding.size(); i++) {
    const Offsets& place = encoding.offsets[i];
    if (encoding.special[i] || place.end == place.begin) continue;
    // By its last character: the blank in front of a word is the word's, within its first token or as a token of its own.
    const auto word = static_cast<std::size_t>(std::ranges::lower_bound(ends, place.end) - ends.begin());
    if (word < words.size() && first[word] < 0) first[word] = static_cast<std::int64_t>(i);
  }
  Example example = example_of(std::move(encoding));
  for (std::size_t w = 0; w < labels.size(); w++)
    if (first[w] >= 0) example.labels[static_cast<std::size_t>(first[w])] = labels[w];
  if (first_tokens) *first_tokens = std::move(first);
  return example;
}

}  // namespace data::detail

PEFT_INLINE std::vector<std::string> label_names_of(const std::vector<LabelledRow>& rows, const std::string& path) {
  std::vector<std::string> names;
  for (const LabelledRow& row : rows) names.insert(names.end(), row.labels.begin(), row.labels.end());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  if (std::ranges::all_of(names, [](const std::string& name) { return data::detail::number_of(name).has_value(); })) {
    for (const std::string& name : names)
      if (*data::detail::number_of(name) != std::floor(*data::detail::number_of(name)))
        throw FormatError(path, -1, "has labels like " + name + ", numbers with a fraction; those are for regression");
    std::ranges::sort(names, {}, [](const std::string& name) { return *data::detail::number_of(name); });
  }
  if (names.size() == 1) throw FormatError(path, -1, "has one label alone, \"" + names[0] + "\"; there is nothing to tell apart");
  return names;
}

PEFT_INLINE Example encode_sequence(std::string_view text, const std::optional<std::string>& text_pair, const Tokenizer& tokenizer, std::int64_t max_length) {
  data::detail::check_max_length(max_length);
  return data::detail::encode_sequence_within(text, text_pair, tokenizer, max_length, nullptr);
}

PEFT_INLINE Example encode_sequence(std::string_view text, const std::optional<std::string>& text_pair, const Tokenizer& tokenizer, const PlacedPrompt& prompt,
                                    std::int64_t max_length) {
  data::detail::check_max_length(max_length);
  return data::detail::placed_sequence_within(text, text_pair, tokenizer, prompt, max_length, nullptr);
}

PEFT_INLINE Example encode_words(const std::vector<std::string>& words, const std::vector<std::int32_t>& labels, const Tokenizer& tokenizer,
                                 std::int64_t max_length, std::vector<std::int64_t>* first_tokens) {
  data::detail::check_max_length(max_length);
  return data::detail::encode_words_within(words, labels, tokenizer, max_length, first_tokens, nullptr);
}

PEFT_INLINE Dataset load_classification(const std::string& path, const Tokenizer& tokenizer, const LabelledOptions& options) {
  using namespace data::detail;
  check_max_length(options.max_length);
  const std::vector<LabelledRow> rows = read_labelled_rows(path, false, options.columns);
  if (rows[0].labels.empty()) throw FormatError(path, -1, rows[0].place + " has no label; a row has \"label\", or a column of a name that is given");
  DatasetReport report;
  report.format = options.regression ? "regression" : "classification", report.rows = static_cast<std::int64_t>(rows.size());
  if (!options.regression) report.label_names = options.label_names.empty() ? label_names_of(rows, path) : options.label_names;
  const LabelNumbers number(report.label_names, path);
  std::vector<Example> examples;
  for (const LabelledRow& row : rows) {
    bool cut = false;
    Example example = options.prompt ? placed_sequence_within(row.text, row.text_pair, tokenizer, *options.prompt, options.max_length, &cut)
                                     : encode_sequence_within(row.text, row.text_pair, tokenizer, options.max_length, &cut);
    if (example.input_ids.empty()) throw FormatError(path, -1, row.place + " has a text of no tokens");
    report.truncated += cut;
    const std::optional<double> value = options.regression ? number_of(row.labels[0]) : double(number(row.labels[0], row.place));
    if (!value) throw FormatError(path, -1, row.place + " has the label \"" + row.labels[0] + "\", which is no number; regression wants one");
    example.targets = {float(*value)};
    examples.push_back(std::move(example));
  }
  return Dataset(std::move(examples), std::move(report));
}

PEFT_INLINE Dataset load_token_classification(const std::string& path, const Tokenizer& tokenizer, const LabelledOptions& options) {
  using namespace data::detail;
  check_max_length(options.max_length);
  if (options.regression) throw NotSupported("load_token_classification", "regression of single words");
  const std::vector<LabelledRow> rows = read_labelled_rows(path, true, options.columns);
  DatasetReport report;
  report.format = "token_classification", report.rows = static_cast<std::int64_t>(rows.size());
  report.label_names = options.label_names.empty() ? label_names_of(rows, path) : options.label_names;
  const LabelNumbers number(report.label_names, path);
  std::vector<Example> examples;
  for (const LabelledRow& row : rows) {
    if (row.labels.empty() && !row.words.empty()) throw FormatError(path, -1, row.place + " has no labels");
    std::vector<std::int32_t> labels;
    for (const std::string& label : row.labels) labels.push_back(number(label, row.place));
    bool cut = false;
    Example example = encode_words_within(row.words, labels, tokenizer, options.max_length, nullptr, &cut);
    report.truncated += cut;
    if (std::ranges::all_of(example.labels, [](std::int32_t label) { return label == ignore_index; }))
      report.dropped++;
    else
      examples.push_back(std::move(example));
  }
  if (examples.empty()) throw FormatError(path, -1, "none of its rows has a word with a label within max_length = " + std::to_string(options.max_length));
  return Dataset(std::move(examples), std::move(report));
}

}  // namespace peft
