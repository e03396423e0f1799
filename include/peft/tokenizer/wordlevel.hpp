// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "peft/core/error.hpp"
#include "peft/tokenizer/model.hpp"

namespace peft::tokenizer {

/// A piece is a token, or it is unknown. Throws Error for one that is in no vocabulary without an unknown token.
class WordLevel final : public Model {
 public:
  WordLevel(Vocabulary vocabulary, std::string unk_token) : vocabulary_(std::move(vocabulary)), unk_token_(std::move(unk_token)) {}
  void tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans = nullptr) const override {
    std::int32_t id = vocabulary_.id(piece);
    if (id < 0) id = unk_id();
    if (id < 0) throw Error("tokenizer.encode", "\"" + std::string(piece) + "\" is not in the vocabulary, and neither is the unk_token \"" + unk_token_ + "\"");
    ids.push_back(id);
    if (spans != nullptr) spans->push_back({0, piece.size()});
  }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::int32_t unk_id() const override { return vocabulary_.id(unk_token_); }

 private:
  Vocabulary vocabulary_;
  std::string unk_token_;
};

}  // namespace peft::tokenizer
