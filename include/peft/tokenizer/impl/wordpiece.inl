// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/tokenizer/unicode.hpp"
#include "peft/tokenizer/wordpiece.hpp"

namespace peft::tokenizer {

PEFT_INLINE void WordPiece::tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans) const {
  const std::size_t ids_before = ids.size(), spans_before = spans != nullptr ? spans->size() : 0;
  const auto unknown = [&] {
    ids.resize(ids_before);
    ids.push_back(unk_id_);
    if (spans != nullptr) spans->resize(spans_before), spans->push_back({0, piece.size()});
  };
  std::size_t characters = 0;
  for (char c : piece) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  if (characters > max_characters_) return unknown();

  std::string token = prefix_ + std::string(piece);  // in front of the rest stands the prefix
  for (std::size_t begin = 0; begin < piece.size();) {
    if (begin > 0) token.replace(prefix_.size(), token.npos, piece.substr(begin));
    std::string_view candidate = begin == 0 ? piece : std::string_view(token);
    const std::size_t shortest = begin == 0 ? 0 : prefix_.size();
    std::int32_t id = -1;
    while (candidate.size() > shortest && (id = vocabulary_.id(candidate)) < 0)
      candidate.remove_suffix(unicode::decode_before(candidate, candidate.size()).length);
    if (id < 0) return unknown();
    const std::size_t end = begin + candidate.size() - shortest;
    ids.push_back(id);
    if (spans != nullptr) spans->push_back({begin, end});
    begin = end;
  }
}

}  // namespace peft::tokenizer
