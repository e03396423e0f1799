// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "peft/tokenizer/pieces.hpp"
#include "peft/tokenizer/vocabulary.hpp"

namespace peft::tokenizer {

/// Turns one piece into ids: Bpe, WordPiece, WordLevel, Unigram, SentencepieceBpe.
class Model {
 public:
  virtual ~Model() = default;
  /// Appends the ids of a piece that is not empty, and with `spans` the bytes of the piece that each stands for. The same piece always gives
  /// the same ids (the tokenizer remembers them).
  virtual void tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans = nullptr) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
  /// A character before which every piece may be cut (where it does not follow itself) without changing its ids; empty if there is none. A
  /// sentencepiece vocabulary sees whole texts as one piece; its "▁" makes words of them that can be remembered.
  virtual std::string_view word_mark() const { return {}; }
  /// Whether an unknown token is spelled as the text is, where its white space leaves its offsets.
  virtual bool spells_unknown() const { return false; }
  /// The id of what the vocabulary does not know, -1 if the model drops it.
  virtual std::int32_t unk_id() const = 0;
};
using ModelPtr = std::unique_ptr<const Model>;

}  // namespace peft::tokenizer
