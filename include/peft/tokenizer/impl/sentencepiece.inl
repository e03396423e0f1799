// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <queue>
#include <unordered_map>

#include "peft/core/error.hpp"
#include "peft/tokenizer/impl/byte_tokens.inl"
#include "peft/tokenizer/impl/decoder.inl"
#include "peft/tokenizer/sentencepiece.hpp"

namespace peft::tokenizer {
namespace detail {

/// The fields of a protobuf message, one after the other.
class Protobuf {
 public:
  Protobuf(std::string_view message_bytes, std::string_view path) : bytes_(message_bytes), path_(path) {}

  /// False at the end. Then `field` and one of `number` (varints, and fixed numbers as their bits) and `bytes` are set.
  bool next() {
    if (bytes_.empty()) return false;
    const std::uint64_t key = varint();
    field = static_cast<std::uint32_t>(key >> 3);
    number = 0, bytes = {};
    switch (key & 7) {
      case 0:
        number = varint();
        break;
      case 1:
        number = fixed(8);
        break;
      case 5:
        number = fixed(4);
        break;
      case 2:
        bytes = take(varint());
        break;
      default:
        throw error("has a field of the wire type " + std::to_string(key & 7));
    }
    if (field == 0) throw error("has a field 0");
    return true;
  }
  float real() const { return std::bit_cast<float>(static_cast<std::uint32_t>(number)); }
  std::int32_t integer() const { return static_cast<std::int32_t>(static_cast<std::uint32_t>(number)); }
  Protobuf message() const { return Protobuf(bytes, path_); }
  FormatError error(const std::string& what) const { return FormatError(path_, -1, "is not a sentencepiece model: it " + what); }

  std::uint32_t field = 0;
  std::uint64_t number = 0;
  std::string_view bytes;

 private:
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size()) throw error("ends within a field");
    const std::string_view taken = bytes_.substr(0, static_cast<std::size_t>(size));
    bytes_.remove_prefix(taken.size());
    return taken;
  }
  std::uint64_t fixed(unsigned size) {
    std::uint64_t value = 0;
    unsigned shift = 0;
    for (char c : take(size)) value |= std::uint64_t{static_cast<unsigned char>(c)} << shift, shift += 8;
    return value;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    throw error("has a number of more than ten bytes");
  }

  std::string_view bytes_, path_;
};

}  // namespace detail

PEFT_INLINE SentencepieceModel SentencepieceModel::parse(std::string_view bytes, std::string_view path) {
  SentencepieceModel model;
  detail::Protobuf whole(bytes, path);
  while (whole.next()) {
    detail::Protobuf part = whole.message();
    if (whole.field == 1) {  // pieces
      Piece& piece = model.pieces.emplace_back();
      while (part.next()) {
        if (part.field == 1) piece.text = part.bytes;
        if (part.field == 2) piece.score = part.real();
        if (part.field == 3) {
          if (part.number < 1 || part.number > 6) throw part.error("has a piece of the type " + std::to_string(part.number));
          piece.type = static_cast<PieceType>(part.number);
        }
      }
      if (!(std::abs(piece.score) <= std::numeric_limits<float>::max()))
        throw part.error("has the piece " + std::to_string(model.pieces.size() - 1) + " with a score that is not finite");
    } else if (whole.field == 2) {  // trainer_spec
      while (part.next()) {
        if (part.field == 3) {
          if (part.number < 1 || part.number > 4) throw part.error("has the model type " + std::to_string(part.number));
          model.kind = static_cast<Kind>(part.number);
        }
        if (part.field == 24) model.suffix_space = part.number != 0;
        if (part.field == 35) model.byte_fallback = part.number != 0;
        if (part.field == 40) model.unk_id = part.integer();
        if (part.field == 41) model.bos_id = part.integer();
        if (part.field == 42) model.eos_id = part.integer();
        if (part.field == 43) model.pad_id = part.integer();
        if (part.field == 44) model.unk_surface = part.bytes;
      }
    } else if (whole.field == 3) {  // normalizer_spec
      while (part.next()) {
        if (part.field == 2) model.charsmap = part.bytes;
        if (part.field == 3) model.add_dummy_prefix = part.number != 0;
        if (part.field == 4) model.remove_extra_whitespaces = part.number != 0;
        if (part.field == 5) model.escape_whitespaces = part.number != 0;
      }
    }
  }
  if (model.pieces.empty()) throw whole.error("has no pieces");
  return model;
}

PEFT_INLINE void SentencepieceNormalizer::apply(AlignedText& text) const {
  Rewriter out(text);
  const std::string_view old = out.old();
  const std::string_view space = options_.escape_whitespaces ? detail::space_mark : " ";
  // What stands for the beginning of the rest, and how many bytes of it that is.
  const auto prefix = [&](std::size_t at) -> std::pair<std::string_view, std::size_t> {
    const std::string_view rest = old.substr(at);
    if (const std::size_t length = user_defined_.longest(rest); length > 0) return {rest.substr(0, length), length};
    if (const CharacterMap::Match match = map_.longest(rest); match.length > 0) return {match.replacement, match.length};
    const std::size_t length = unicode::decode(rest, 0).length;
    return {rest.substr(0, length), length};
  };
  std::size_t at = 0;
  if (options_.remove_extra_whitespaces)
    while (at < old.size()) {
      const auto [part, length] = prefix(at);
      if (part != " ") break;
      at += length;
    }
  if (at < old.size()) {
    if (options_.add_dummy_prefix && !options_.suffix_space) out.put(space, at);
    bool after_space = options_.remove_extra_whitespaces;
    while (at < old.size()) {
      auto [part, length] = prefix(at);
      while (after_space && part.starts_with(' ')) part.remove_prefix(1);
      if (!part.empty()) {
        for (std::size_t i = 0; i < part.size(); i++) out.put(part[i] == ' ' ? space : part.substr(i, 1), at);
        after_space = options_.remove_extra_whitespaces && part.ends_with(' ');
      }
      at += length;
    }
    if (options_.remove_extra_whitespaces)
      while (out.written().ends_with(space)) out.shrink(out.size() - space.size());
    if (options_.add_dummy_prefix && options_.suffix_space) out.put(space, old.size() - 1);
  }
  out.finish();
}

PEFT_INLINE SentencepieceBpe::SentencepieceBpe(Vocabulary vocabulary, std::vector<float> scores, std::vector<PieceType> types, std::int32_t unk_id,
                                               bool byte_fallback)
    : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), types_(std::move(types)), unk_id_(unk_id) {
  std::vector<std::pair<std::string, std::int32_t>> fixed;
  bool crosses = false;
  for (std::size_t i = 0; i < types_.size(); i++) {
    const std::string token(vocabulary_.token(static_cast<std::int32_t>(i)));
    if (types_[i] == PieceType::user_defined) fixed.emplace_back(token, static_cast<std::int32_t>(i));
    crosses = crosses || (mergeable(static_cast<std::int32_t>(i)) && detail::crosses_words(token));
  }
  user_defined_ = Trie(std::move(fixed));
  const std::int32_t mark = vocabulary_.id(detail::space_mark);
  if (!crosses && mark >= 0 && mergeable(mark)) word_mark_ = detail::space_mark;
  if (byte_fallback) byte_tokens_ = detail::byte_tokens(vocabulary_);
}

PEFT_INLINE bool SentencepieceBpe::mergeable(std::int32_t id) const {
  const PieceType type = types_[static_cast<std::size_t>(id)];
  return type == PieceType::normal || type == PieceType::user_defined || type == PieceType::unused;
}

PEFT_INLINE void SentencepieceBpe::tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans) const {
  struct Symbol {
    std::size_t begin, size;  // size 0: merged into its left neighbour
    std::size_t previous, next;
    bool fixed;
  };
  struct Candidate {
    float score;
    std::size_t left, right, size;
    bool operator<(const Candidate& other) const { return score != other.score ? score < other.score : left > other.left; }
  };
  constexpr std::size_t none = ~std::size_t{0};
  std::vector<Symbol> symbols;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t fixed = user_defined_.longest(piece.substr(at));
    const std::size_t size = fixed > 0 ? fixed : unicode::decode(piece, at).length;
    symbols.push_back({at, size, symbols.empty() ? none : symbols.size() - 1, symbols.size() + 1, fixed > 0});
    at += size;
  }
  symbols.back().next = none;

  std::priority_queue<Candidate> candidates;
  std::unordered_map<std::string_view, std::size_t> unused;  // where the left part of a merged unused piece ends
  const auto offer = [&](std::size_t left, std::size_t right) {
    if (left == none || right == none || symbols[left].fixed || symbols[right].fixed) return;
    const std::string_view merged = piece.substr(symbols[left].begin, symbols[left].size + symbols[right].size);
    const std::int32_t id = vocabulary_.id(merged);
    if (id < 0 || !mergeable(id)) return;
    candidates.push({scores_[static_cast<std::size_t>(id)], left, right, merged.size()});
    if (types_[static_cast<std::size_t>(id)] == PieceType::unused) unused[merged] = symbols[left].size;
  };
  for (std::size_t i = 1; i < symbols.size(); i++) offer(i - 1, i);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol &left = symbols[best.left], &right = symbols[best.right];
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;  // stale
    left.size += right.size, right.size = 0;
    left.next = right.next;
    if (left.next != none) symbols[left.next].previous = best.left;
    offer(left.previous, best.left);
    offer(best.left, left.next);
  }

  bool previous_unknown = false;
  const auto put = [&](std::int32_t id, std::size_t begin, std::size_t end) {
    ids.push_back(id);
    if (spans != nullptr) spans->push_back({begin, end});
  };
  const auto emit = [&](const auto& self, std::size_t begin, std::size_t size) -> void {
    const std::string_view text = piece.substr(begin, size);
    const std::int32_t id = vocabulary_.id(text);
    const bool known = id >= 0 && mergeable(id);
    if (known && types_[static_cast<std::size_t>(id)] == PieceType::unused)
      if (const auto cut = unused.find(text); cut != unused.end()) {
        self(self, begin, cut->second);
        return self(self, begin + cut->second, size - cut->second);
      }
    if (known) {
      put(id, begin, begin + size);
    } else if (!byte_tokens_.empty() && std::all_of(text.begin(), text.end(), [&](char c) { return byte_tokens_[static_cast<unsigned char>(c)] >= 0; })) {
      for (char c : text) put(byte_tokens_[static_cast<unsigned char>(c)], begin, begin + size);
    } else if (previous_unknown) {
      if (spans != nullptr) spans->back().end = begin + size;
    } else {
      put(unk_id_, begin, begin + size);
    }
    previous_unknown = !known && byte_tokens_.empty();
  };
  for (std::size_t i = 0; i != none; i = symbols[i].next) emit(emit, symbols[i].begin, symbols[i].size);
}

PEFT_INLINE void SentencepieceDecoder::apply(std::vector<std::string>& tokens) const {
  static const Pattern mark = Pattern::literal(std::string(detail::space_mark));
  std::string text, bytes;
  bool dropped = false;
  const auto finish = [&] {
    for (std::size_t at = 0; at < bytes.size();) {  // one U+FFFD for each byte that is part of no character
      const unicode::Character character = unicode::decode(bytes, at);
      const std::size_t length = character.valid ? character.length : 1;
      text += character.valid ? bytes.substr(at, length) : "\xEF\xBF\xBD";
      at += length;
    }
    bytes.clear();
  };
  for (const std::string& token : tokens) {
    if (const int byte = detail::fallback_byte(token); byte >= 0) {
      bytes += static_cast<char>(static_cast<unsigned char>(byte));
      continue;
    }
    finish();
    if (std::binary_search(options_.controls.begin(), options_.controls.end(), token)) continue;
    if (token == options_.unk_piece) {
      text += options_.unk_surface;
      continue;
    }
    std::string_view rest = token;
    if (options_.drop_first_space && text.empty() && !dropped && rest.starts_with(detail::space_mark)) {
      rest.remove_prefix(detail::space_mark.size());
      dropped = !options_.drop_leading_spaces;
    }
    text += detail::replaced(rest, mark, " ");
  }
  finish();
  tokens.assign(1, text);
}

}  // namespace peft::tokenizer
