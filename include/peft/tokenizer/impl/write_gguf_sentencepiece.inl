// SPDX-License-Identifier: Apache-2.0
#pragma once

// sentencepiece's tokenizer.model as GGUF's vocabulary of the kind "llama": the same pieces, scores and types.

#include <algorithm>
#include <string>
#include <utility>

#include "peft/tokenizer/impl/gguf_tokens.inl"
#include "peft/tokenizer/impl/write_gguf_pieces.inl"
#include "peft/tokenizer/sentencepiece.hpp"

namespace peft::tokenizer::detail {

/// Refuses what such a vocabulary cannot say, or what its readers take in another way.
inline void check_sentencepiece(const std::string& path, const SentencepieceModel& model, const Vocabulary& vocabulary) {
  const auto must = [&](bool holds, const std::string& what) {
    if (!holds) throw no_gguf_form(path, what, "llama");
  };
  must(model.kind == SentencepieceModel::Kind::bpe, "a model that is no BPE");
  must(model.charsmap.empty(), "a character map");
  must(!model.remove_extra_whitespaces, "remove_extra_whitespaces");
  must(model.escape_whitespaces && !model.suffix_space, "escape_whitespaces false, or a space behind words,");
  must(model.byte_fallback && std::ranges::count(byte_tokens(vocabulary), -1) == 0, "a vocabulary without byte_fallback");
  for (const SentencepieceModel::Piece& piece : model.pieces) {
    const std::string name = "the piece \"" + piece.text + "\"";
    must(piece.type != PieceType::unused, name + ", which is unused,");
    must(piece.type != PieceType::user_defined || !model.add_dummy_prefix, name + ", which is user-defined, with a space in front of texts");
    for (std::size_t at = 0; at < piece.text.size();) {
      const std::size_t next = std::min(at + unicode::decode(piece.text, at).length, piece.text.size());
      must(piece.type != PieceType::normal || vocabulary.id(piece.text.substr(at, next - at)) >= 0, name + ", of which a character is no piece,");
      must(piece.type != PieceType::byte || at == 0 || vocabulary.id(piece.text.substr(0, at)) < 0 || vocabulary.id(piece.text.substr(at)) < 0,
           name + ", which is also two pieces,");
      at = next;
    }
  }
}

/// Into the file: pieces, scores, types, and whether a space goes in front.
inline void write_gguf_sentencepiece(GgufFileWriter& w, const std::string& path, const SentencepieceModel& model, const Vocabulary& vocabulary,
                                     std::int64_t vocab_size) {
  check_sentencepiece(path, model, vocabulary);
  check_vocab_size(std::int64_t(model.pieces.size()), vocab_size, path);
  GgufTokens tokens(static_cast<std::size_t>(vocab_size));
  tokens.scores.assign(tokens.texts.size(), 0.0f);
  for (std::size_t id = 0; id < model.pieces.size(); id++) {
    const SentencepieceModel::Piece& piece = model.pieces[id];
    std::string text = piece.text;
    if (piece.type == PieceType::user_defined)  // is cut out of the text before its spaces are ▁
      for (std::size_t at; (at = text.find(space_mark)) != text.npos;) text.replace(at, space_mark.size(), " ");
    tokens.put(id, std::move(text), static_cast<std::int32_t>(piece.type)), tokens.scores[id] = piece.score;
  }
  tokens.fill();
  tokens.write(w, path, "llama");
  w.text("tokenizer.ggml.pre", "default"), w.boolean("tokenizer.ggml.add_space_prefix", model.add_dummy_prefix);
}

}  // namespace peft::tokenizer::detail
