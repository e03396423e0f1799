// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "peft/core/config.hpp"
#include "peft/tokenizer/model.hpp"
#include "peft/tokenizer/trie.hpp"

namespace peft::tokenizer {

/// What a sentencepiece vocabulary says of a piece, with the numbers that its files and GGUF's use.
enum class PieceType : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct UnigramOptions {
  std::int32_t unk_id = -1;    // -1: a character that no token covers is an error
  bool byte_fallback = false;  // what is unknown becomes its bytes' tokens "<0xNN>"
  /// sentencepiece's own: sums in single precision; of each token its type, empty otherwise. Control, unknown and byte tokens are then not found in
  /// texts, unused ones not chosen, user-defined ones always.
  std::vector<PieceType> types = {};
};

/// The most probable cut of a text into tokens under a unigram language model (Kudo 2018, arXiv:1804.10959): the best path over the ends of
/// characters, where log p of an unknown character is that of the least probable token less 10. Neighbouring unknown characters are one token.
class Unigram final : public Model {
 public:
  /// `scores[i]` is log p of the token i; ids are 0, 1, …
  Unigram(Vocabulary vocabulary, std::vector<double> scores, UnigramOptions options);
  /// Throws Error on a character that no token covers if there is no unknown token.
  void tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans = nullptr) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::int32_t unk_id() const override { return options_.unk_id; }
  bool spells_unknown() const override { return true; }

 private:
  Vocabulary vocabulary_;
  std::vector<double> scores_;
  UnigramOptions options_;
  Trie trie_;
  double unknown_score_ = 0;
  std::vector<std::int32_t> byte_tokens_;  // of "<0x00>" … "<0xFF>", -1 where missing; empty without byte_fallback
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/unigram.inl"
#endif
