// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "peft/data/example.hpp"
#include "peft/data/placed_prompt.hpp"
#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

/// Which columns of a table, or fields of rows of JSON, are read; where none is named, the known ones.
struct LabelledColumns {
  std::string text = {};       // text, sentence, sentence1, question1, question, premise, "#1 String"
  std::string text_pair = {};  // its partner: text_pair, sentence2, question2, sentence, hypothesis, "#2 String"; perhaps there is none
  std::string words = {};      // tokens, words: a list
  std::string label = {};      // label, Quality, is_duplicate, gold_label, score; of words: labels, tags, ner_tags, pos_tags
};

/// A row as its file has it: a text or a pair of texts, or words; and its label, or one a word.
struct LabelledRow {
  std::string text;
  std::optional<std::string> text_pair = {};
  std::vector<std::string> words = {};
  std::vector<std::string> labels = {};  // none: the row has no label
  std::string place = {};                // "line 3", for errors
};

/// Rows of a table with a header (.tsv: tabs, and quotes are only text, as GLUE's; .csv: commas and RFC 4180's quotes), else of JSON lines or a JSON
/// list. `of_words`: each row has a list of words. Throws FormatError naming the line and the field.
std::vector<LabelledRow> read_labelled_rows(const std::string& path, bool of_words = false, const LabelledColumns& columns = {});

/// The distinct labels of rows, as classes by their numbers: numbers in their order, else by the alphabet. Throws FormatError if there is one alone, or
/// if they are numbers with fractions.
std::vector<std::string> label_names_of(const std::vector<LabelledRow>& rows, const std::string& path);

struct LabelledOptions {
  std::int64_t max_length = 512;              // tokens, those around a text included; of a pair the longer text is cut
  std::vector<std::string> label_names = {};  // classes by their numbers; none: label_names_of the file
  bool regression = false;                    // labels are numbers that a model is to give
  LabelledColumns columns = {};
  const PlacedPrompt* prompt = nullptr;  // puts virtual tokens around {text} and {text_pair}
};

/// Sequences with one label each, for a head that classifies sequences: Example::targets. A label is a class's name, or its number where names are
/// no numbers. Throws FormatError for a row without a label, or with one that is not known.
Dataset load_classification(const std::string& path, const Tokenizer& tokenizer, const LabelledOptions& options = {});

/// Rows of words with one label each, for a head that classifies tokens: the label of a word is that of its first token, and its other tokens have none.
Dataset load_token_classification(const std::string& path, const Tokenizer& tokenizer, const LabelledOptions& options = {});

/// A text, or a pair of texts, as the tokenizer's post-processor has it, with segments; cut to max_length. It has no targets.
Example encode_sequence(std::string_view text, const std::optional<std::string>& text_pair, const Tokenizer& tokenizer, std::int64_t max_length = 512);

/// The same with virtual tokens around {text} and {text_pair}.
Example encode_sequence(std::string_view text, const std::optional<std::string>& text_pair, const Tokenizer& tokenizer, const PlacedPrompt& prompt,
                        std::int64_t max_length = 512);

/// Words, put together by blanks; labels (words) go to each word's first token. `first_tokens` (words), if wanted: where these are, −1 where a word has none
/// or was cut away.
Example encode_words(const std::vector<std::string>& words, const std::vector<std::int32_t>& labels, const Tokenizer& tokenizer, std::int64_t max_length = 512,
                     std::vector<std::int64_t>* first_tokens = nullptr);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/data/impl/labelled.inl"
#include "peft/data/impl/labelled_rows.inl"
#endif
