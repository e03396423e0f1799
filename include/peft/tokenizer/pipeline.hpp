// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "peft/tokenizer/added_tokens.hpp"
#include "peft/tokenizer/decoder.hpp"
#include "peft/tokenizer/encoding.hpp"
#include "peft/tokenizer/model.hpp"
#include "peft/tokenizer/normalizer.hpp"
#include "peft/tokenizer/post_processor.hpp"
#include "peft/tokenizer/pre_tokenizer.hpp"

namespace peft::tokenizer {

/// What a tokenizer is made of, in the order in which a text meets it. Only the model must be there.
struct Pipeline {
  std::vector<AddedToken> added_tokens;  // cut out of the raw text, or (normalized) of the normalised one
  NormalizerPtr normalizer;
  PreTokenizerPtr pre_tokenizer;
  ModelPtr model;
  PostProcessorPtr post_processor;
  DecoderPtr decoder;  // without one, tokens are joined by spaces

  std::optional<std::int32_t> bos_id, eos_id, pad_id, unk_id;
  std::vector<std::int32_t> eos_ids;
  std::string chat_template;
  std::optional<Truncation> truncation;
  std::optional<Padding> padding;
  /// Ids that decode() skips and that no text can spell (sentencepiece's control tokens).
  std::vector<std::int32_t> control_ids;
};

}  // namespace peft::tokenizer
