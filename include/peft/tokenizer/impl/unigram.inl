// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <limits>

#include "peft/core/error.hpp"
#include "peft/tokenizer/impl/byte_tokens.inl"
#include "peft/tokenizer/unicode.hpp"
#include "peft/tokenizer/unigram.hpp"

namespace peft::tokenizer {

PEFT_INLINE Unigram::Unigram(Vocabulary vocabulary, std::vector<double> scores, UnigramOptions options)
    : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), options_(std::move(options)) {
  const bool typed = !options_.types.empty();
  std::vector<std::pair<std::string, std::int32_t>> entries;
  double lowest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < scores_.size(); i++) {
    const auto id = static_cast<std::int32_t>(i);
    const std::string token(vocabulary_.token(id));
    const PieceType type = typed ? options_.types[i] : PieceType::normal;
    if (type == PieceType::normal) lowest = std::min(lowest, scores_[i]);
    if (type == PieceType::control || type == PieceType::unknown || type == PieceType::byte || type == PieceType::unused) continue;
    entries.emplace_back(token, id);
  }
  unknown_score_ = lowest - 10.0;
  if (typed) {  // as the library computes them; it means the highest score, and begins to look for it above 0
    unknown_score_ = static_cast<float>(unknown_score_);
    for (std::size_t i = 0; i < scores_.size(); i++)
      if (options_.types[i] == PieceType::user_defined) scores_[i] = -0.1;
  }
  trie_ = Trie(std::move(entries));
  if (options_.byte_fallback) byte_tokens_ = detail::byte_tokens(vocabulary_);
}

PEFT_INLINE void Unigram::tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans) const {
  struct Node {
    double score = 0;
    std::int32_t id = -1;
    std::uint32_t begin = ~std::uint32_t{0};
  };
  constexpr std::uint32_t unreached = ~std::uint32_t{0};
  if (piece.size() >= unreached) throw Error("tokenizer.unigram", "a piece of " + std::to_string(piece.size()) + " bytes is too long");
  const bool single = !options_.types.empty();
  thread_local std::vector<Node> best;
  best.assign(piece.size() + 1, Node{});
  for (std::size_t at = 0; at < piece.size();) {
    const double here = best[at].score;
    const std::size_t character = unicode::decode(piece, at).length;
    bool covered = false;
    const auto offer = [&](std::size_t length, std::int32_t id, double score) {
      Node& node = best[at + length];
      const double sum = single ? static_cast<double>(static_cast<float>(here + score)) : here + score;
      if (node.begin != unreached && !(sum > node.score)) return;
      node = {sum, id, static_cast<std::uint32_t>(at)};
    };
    trie_.beginnings(piece.substr(at), [&](std::size_t length, std::int32_t id) {
      offer(length, id, scores_[static_cast<std::size_t>(id)]);
      covered = covered || length == character;
    });
    if (!covered) {
      if (options_.unk_id < 0)
        throw Error("tokenizer.unigram", "\"" + std::string(piece.substr(at, character)) + "\" is in no token, and the vocabulary has no unknown token");
      offer(character, options_.unk_id, unknown_score_);
    }
    at += character;
  }

  thread_local std::vector<Pieces::Span> path;  // from the end
  path.clear();
  bool previous_unknown = false;
  for (std::size_t end = piece.size(); end > 0; end = best[end].begin) {
    const bool unknown = best[end].id == options_.unk_id;
    if (unknown && previous_unknown)
      path.back().begin = best[end].begin;
    else
      path.push_back({best[end].begin, end});
    previous_unknown = unknown;
  }
  for (auto span = path.rbegin(); span != path.rend(); ++span) {
    const Node& node = best[span->end];
    const auto put = [&](std::int32_t id) {
      ids.push_back(id);
      if (spans != nullptr) spans->push_back(*span);
    };
    if (node.id != options_.unk_id) {
      put(node.id);
      continue;
    }
    const std::string_view text = piece.substr(span->begin, span->end - span->begin);
    if (const std::int32_t known = single ? -1 : vocabulary_.id(text); known >= 0)
      put(known);
    else if (!byte_tokens_.empty() && std::all_of(text.begin(), text.end(), [&](char c) { return byte_tokens_[static_cast<unsigned char>(c)] >= 0; }))
      for (char c : text) put(byte_tokens_[static_cast<unsigned char>(c)]);
    else
      put(options_.unk_id);
  }
}

}  // namespace peft::tokenizer
