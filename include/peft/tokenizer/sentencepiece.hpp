// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/config.hpp"
#include "peft/tokenizer/charsmap.hpp"
#include "peft/tokenizer/decoder.hpp"
#include "peft/tokenizer/model.hpp"
#include "peft/tokenizer/normalizer.hpp"
#include "peft/tokenizer/trie.hpp"
#include "peft/tokenizer/unigram.hpp"

namespace peft::tokenizer {

/// What a sentencepiece model (a protobuf, ModelProto of sentencepiece_model.proto) says.
struct SentencepieceModel {
  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::normal;
  };
  enum class Kind { unigram = 1, bpe = 2, word = 3, character = 4 };
  std::vector<Piece> pieces;
  Kind kind = Kind::unigram;
  bool byte_fallback = false, suffix_space = false;
  std::string charsmap;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  std::int32_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;
  std::string unk_surface = " \xE2\x81\x87 ";

  /// Throws FormatError(path) for what is no such message, and for a model without pieces.
  static SentencepieceModel parse(std::string_view bytes, std::string_view path);
};

/// sentencepiece's way from a text to what its models cut: the longest match of the character map, spaces as ▁, one in front, none that is
/// too much (each if asked for). User-defined pieces pass as they are.
class SentencepieceNormalizer final : public Normalizer {
 public:
  struct Options {
    bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true, suffix_space = false;
  };
  SentencepieceNormalizer(CharacterMap map, Options options, Trie user_defined)
      : map_(std::move(map)), options_(options), user_defined_(std::move(user_defined)) {}
  void apply(AlignedText& text) const override;

 private:
  CharacterMap map_;
  Options options_;
  Trie user_defined_;
};

/// Byte-pair encoding as sentencepiece does it: of all neighbours that together are a piece, those of the highest score are merged first.
/// User-defined pieces take part in no merge; a piece that is unused is taken apart again.
class SentencepieceBpe final : public Model {
 public:
  /// Ids are 0, 1, …; `scores` and `types` are those of each.
  SentencepieceBpe(Vocabulary vocabulary, std::vector<float> scores, std::vector<PieceType> types, std::int32_t unk_id, bool byte_fallback);
  void tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans = nullptr) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::int32_t unk_id() const override { return unk_id_; }
  std::string_view word_mark() const override { return word_mark_; }

 private:
  bool mergeable(std::int32_t id) const;

  Vocabulary vocabulary_;
  std::vector<float> scores_;
  std::vector<PieceType> types_;
  std::int32_t unk_id_;
  Trie user_defined_;
  std::string_view word_mark_;
  std::vector<std::int32_t> byte_tokens_;  // empty without byte_fallback
};

/// ▁ to spaces, bytes to characters; the space that the normalizer has put in front is gone again, control pieces give nothing, the unknown
/// one its surface.
class SentencepieceDecoder final : public Decoder {
 public:
  struct Options {
    bool drop_first_space = true;     // a dummy prefix, or leading spaces that were removed
    bool drop_leading_spaces = true;  // all of them
    std::string unk_piece = "<unk>", unk_surface = " \xE2\x81\x87 ";
    std::vector<std::string> controls = {};  // sorted
  };
  explicit SentencepieceDecoder(Options options) : options_(std::move(options)) {}
  void apply(std::vector<std::string>& tokens) const override;

 private:
  Options options_;
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/sentencepiece.inl"
#endif
