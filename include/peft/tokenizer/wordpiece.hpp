// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "peft/core/config.hpp"
#include "peft/tokenizer/model.hpp"

namespace peft::tokenizer {

/// BERT's words of pieces (Schuster & Nakajima 2012, as in arXiv:1810.04805): from the left the longest token, all but the first behind
/// `prefix`; a word that cannot be covered, or is longer than `max_characters`, is one unknown token.
class WordPiece final : public Model {
 public:
  WordPiece(Vocabulary vocabulary, std::int32_t unk_id, std::string prefix = "##", std::size_t max_characters = 100)
      : vocabulary_(std::move(vocabulary)), unk_id_(unk_id), prefix_(std::move(prefix)), max_characters_(max_characters) {}
  void tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans = nullptr) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::int32_t unk_id() const override { return unk_id_; }

 private:
  Vocabulary vocabulary_;
  std::int32_t unk_id_;
  std::string prefix_;
  std::size_t max_characters_;
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/wordpiece.inl"
#endif
