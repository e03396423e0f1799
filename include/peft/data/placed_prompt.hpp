// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/token_template.hpp"
#include "peft/data/example.hpp"
#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

/// The text that a row has under this name.
using RowFields = std::function<std::string(const std::string& name)>;

/// Rows of a prompt whose virtual tokens stand where a template says: token i of the prompt is the id vocab_size + i, for which an adapter with this
/// token_template answers. Where all of them are in front of the template they stand ahead of bos or [CLS], as PEFT puts them; else behind.
class PlacedPrompt {
 public:
  /// Throws ConfigError as parse_token_template does. `vocab_size`: the model's.
  PlacedPrompt(std::string_view token_template, std::int64_t vocab_size);

  /// What it asks of a row, without the answer's name; that is "" where the template has none.
  std::vector<std::string> fields() const;
  std::string answer_field() const;

  /// A row. The answer is learnt, and eos behind it where nothing follows. With a `mask_id`, for an encoder, the row has so many masks in the answer's
  /// place, and each has its token as label. What is longer than max_length loses the ends of its longest text.
  Example encode(const RowFields& row, const Tokenizer& tokenizer, std::int64_t max_length = 512, std::optional<std::int32_t> mask_id = {}) const;
  /// A pair for an encoder-decoder, whose source has the virtual tokens; the answer is the target, with eos. Each side has max_length tokens at most.
  /// Throws ConfigError where something follows the answer in the template.
  Example encode_pair(const RowFields& row, const Tokenizer& tokenizer, std::int64_t max_length = 512) const;
  /// The source alone: the prompt that an encoder-decoder answers.
  std::vector<std::int32_t> source(const RowFields& row, const Tokenizer& tokenizer, std::int64_t max_length = 512) const;
  /// What stands ahead of the answer, with the ids that it has there: the prompt that a model continues.
  std::vector<std::int32_t> question(const RowFields& row, const Tokenizer& tokenizer) const;

 private:
  struct Piece {
    std::vector<std::int32_t> ids, labels;
    bool text = true;
  };
  static Piece unlearnt(std::vector<std::int32_t> ids);
  static Example joined(std::vector<Piece> pieces, std::int64_t max_length);
  std::vector<Piece> pieces(const RowFields& row, const Tokenizer& tokenizer, std::optional<std::int32_t> mask_id, bool until_answer) const;
  bool all_in_front() const;
  std::vector<TemplatePart> parts_;
  std::int32_t first_id_;
};

struct PlacedOptions {
  std::int64_t max_length = 512;
  std::optional<std::int32_t> mask_id = {};  // of a masked language model: mask_id(tokenizer)
  bool pairs = false;                        // of an encoder-decoder
};

/// Rows of JSON lines or a JSON list, by the template. Throws FormatError naming the line and the field that it lacks, ConfigError for a template
/// without an answer.
Dataset load_placed(const std::string& path, const Tokenizer& tokenizer, const PlacedPrompt& prompt, const PlacedOptions& options = {});

/// [MASK], <mask> or what else this tokenizer calls it. Throws ConfigError if there is none.
std::int32_t mask_id(const Tokenizer& tokenizer);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/data/impl/placed_prompt.inl"
#endif
