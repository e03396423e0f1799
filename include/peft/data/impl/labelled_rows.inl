// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>

#include "peft/core/error.hpp"
#include "peft/data/impl/formats.inl"
#include "peft/data/labelled.hpp"
#include "peft/io/json.hpp"

namespace peft {
namespace data::detail {

/// Fields that go together, in the order in which they are looked for.
struct TextColumns {
  const char *text, *text_pair;
};
inline constexpr std::array<TextColumns, 7> text_columns = {{{"sentence1", "sentence2"},
                                                             {"question1", "question2"},
                                                             {"premise", "hypothesis"},
                                                             {"question", "sentence"},
                                                             {"#1 String", "#2 String"},
                                                             {"text", "text_pair"},
                                                             {"sentence", nullptr}}};
inline constexpr std::array<const char*, 5> label_columns = {"label", "Quality", "is_duplicate", "gold_label", "score"};
inline constexpr std::array<const char*, 2> word_columns = {"tokens", "words"};
inline constexpr std::array<const char*, 4> word_label_columns = {"labels", "tags", "ner_tags", "pos_tags"};

/// Calls f(fields, line) for each record of a table; blank lines are none.
template <class F>
void for_each_record(const std::string& path, char separator, bool quotes, F f) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FormatError(path, -1, "cannot be opened");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  std::size_t at = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  for (std::int64_t line = 1; at < text.size();) {
    const std::int64_t first_line = line;
    std::vector<std::string> fields(1);
    bool quoted = false, ended = false;
    for (; at < text.size() && !ended; at++) {
      const char c = text[at];
      if (c == '\n') line++;
      if (quoted && c == '"' && at + 1 < text.size() && text[at + 1] == '"')
        fields.back() += text[++at];
      else if (quotes && c == '"' && (quoted || fields.back().empty()))
        quoted = !quoted;
      else if (quoted)
        fields.back() += c;
      else if (c == separator)
        fields.emplace_back();
      else if (c == '\n')
        ended = true;
      else
        fields.back() += c;
    }
    if (quoted) throw FormatError(path, -1, "line " + std::to_string(first_line) + " opens a quote that nothing closes");
    if (fields.back().ends_with('\r')) fields.back().pop_back();
    if (fields.size() > 1 || !fields[0].empty()) f(std::move(fields), first_line);
  }
}

/// Calls f(row, place) with each record as an object of texts.
template <class F>
void for_each_row_of_table(const std::string& path, char separator, bool quotes, F f) {
  std::vector<std::string> header;
  for_each_record(path, separator, quotes, [&](std::vector<std::string> fields, std::int64_t line) {
    if (header.empty()) {
      header = std::move(fields);
      return;
    }
    const std::string place = "line " + std::to_string(line);
    if (fields.size() != header.size())
      throw FormatError(path, -1, place + " has " + std::to_string(fields.size()) + " fields, the header " + std::to_string(header.size()));
    Json row = Json::make_object();
    for (std::size_t i = 0; i < fields.size(); i++) row.set(header[i], Json(std::move(fields[i])));
    f(row, place);
  });
}

/// What a row of JSON says, by the fields that were asked for or are known.
class LabelledReader {
 public:
  LabelledReader(const std::string& path, bool of_words, LabelledColumns columns) : path_(path), of_words_(of_words), columns_(std::move(columns)) {}

  LabelledRow read(const Json& json, std::string place) {
    if (!json.is_object()) throw FormatError(path_, -1, place + " is not an object {…}");
    if (!decided_) decide(json, place);
    LabelledRow row;
    row.place = std::move(place);
    if (of_words_) {
      for (const Json& word : list(json, columns_.words, row.place)) row.words.push_back(as_text(word, columns_.words, row.place));
      if (columns_.label.empty()) return row;
      for (const Json& label : list(json, columns_.label, row.place)) row.labels.push_back(as_text(label, columns_.label, row.place));
      if (row.labels.size() != row.words.size())
        throw FormatError(path_, -1, row.place + " has " + std::to_string(row.words.size()) + " words and " + std::to_string(row.labels.size()) + " labels");
      return row;
    }
    row.text = as_text(member(json, columns_.text, row.place), columns_.text, row.place);
    if (!columns_.text_pair.empty()) row.text_pair = as_text(member(json, columns_.text_pair, row.place), columns_.text_pair, row.place);
    if (!columns_.label.empty()) row.labels = {as_text(member(json, columns_.label, row.place), columns_.label, row.place)};
    return row;
  }

 private:
  // The first row decides; a column that was named must be there.
  void decide(const Json& json, const std::string& place) {
    decided_ = true;
    const auto first_of = [&](const auto& names) -> std::string {
      for (const char* name : names)
        if (json.contains(name)) return name;
      return "";
    };
    const auto require = [&](const std::string& name) {
      if (!name.empty()) member(json, name, place);
    };
    require(columns_.label), require(columns_.text), require(columns_.text_pair), require(columns_.words);
    if (of_words_) {
      if (columns_.words.empty()) columns_.words = first_of(word_columns);
      if (columns_.words.empty())
        throw FormatError(path_, -1, place + " has no list of words; a row has \"tokens\" (or \"words\") and \"labels\" (or \"tags\")");
      if (columns_.label.empty()) columns_.label = first_of(word_label_columns);
      return;
    }
    if (columns_.label.empty()) columns_.label = first_of(label_columns);
    if (!columns_.text.empty()) return;
    for (const TextColumns& known : text_columns) {
      const bool pair = known.text_pair && json.contains(known.text_pair);
      // "question" alone is no text of a pair, and "sentence" has an entry of its own.
      if (!json.contains(known.text) || (known.text_pair && !pair && std::string_view(known.text) != "text")) continue;
      columns_.text = known.text;
      if (pair && columns_.text_pair.empty()) columns_.text_pair = known.text_pair;
      return;
    }
    std::string found;
    for (const auto& [key, value] : json.object()) found += (found.empty() ? "\"" : ", \"") + key + "\"";
    throw FormatError(path_, -1,
                      place + " has the fields " + (found.empty() ? "(none)" : found) +
                          "; a row has \"text\" or \"sentence\", or \"sentence1\" and \"sentence2\", and a \"label\". Other columns can be named");
  }
  const Json& member(const Json& json, const std::string& key, const std::string& place) const {
    if (const Json* value = json.get(key)) return *value;
    std::vector<std::string> known;
    for (const auto& [name, value] : json.object()) known.push_back(name);
    throw FormatError(path_, -1, place + " has no field \"" + key + "\"" + did_you_mean(key, known, "fields here"));
  }
  const std::vector<Json>& list(const Json& json, const std::string& key, const std::string& place) const {
    const Json& value = member(json, key, place);
    if (!value.is_array()) throw FormatError(path_, -1, place + " has a field \"" + key + "\" that is not a list");
    return value.array();
  }
  std::string as_text(const Json& value, const std::string& key, const std::string& place) const {
    if (value.is_string()) return value.string();
    if (value.is_number() || value.is_boolean()) return value.dump();
    throw FormatError(path_, -1, place + " has a field \"" + key + "\" that is neither a text nor a number");
  }

  const std::string& path_;
  bool of_words_, decided_ = false;
  LabelledColumns columns_;
};

}  // namespace data::detail

PEFT_INLINE std::vector<LabelledRow> read_labelled_rows(const std::string& path, bool of_words, const LabelledColumns& columns) {
  std::vector<LabelledRow> rows;
  data::detail::LabelledReader reader(path, of_words, columns);
  const auto add = [&](const Json& json, const std::string& place) { rows.push_back(reader.read(json, place)); };
  if (path.ends_with(".tsv"))
    data::detail::for_each_row_of_table(path, '\t', false, add);
  else if (path.ends_with(".csv"))
    data::detail::for_each_row_of_table(path, ',', true, add);
  else
    data::detail::for_each_row(path, add);
  if (rows.empty()) throw FormatError(path, -1, "has no rows");
  return rows;
}

}  // namespace peft
