// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <numeric>
#include <queue>
#include <string>

#include "peft/core/error.hpp"
#include "peft/core/random.hpp"
#include "peft/tokenizer/bpe.hpp"
#include "peft/tokenizer/impl/byte_tokens.inl"
#include "peft/tokenizer/unicode.hpp"

namespace peft::tokenizer {
namespace detail {

inline std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace detail

PEFT_INLINE Bpe::Bpe(Vocabulary vocabulary, const std::vector<Merge>& merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
  std::size_t capacity = 16;
  while (capacity < 2 * merges.size()) capacity *= 2;
  slots_.assign(capacity, Slot{free_slot, Target{no_rank, -1}});
  for (const Merge& merge : merges) {
    const std::uint64_t pair = detail::pair_key(merge.left, merge.right);
    std::size_t slot = mix(pair, 0) & (capacity - 1);
    while (slots_[slot].pair != free_slot && slots_[slot].pair != pair) slot = (slot + 1) & (capacity - 1);
    slots_[slot] = {pair, {merge.rank, merge.merged}};
  }
  // No merge makes a token with "▁" behind another character: then none crosses the border in front of a word. Where unknown characters are dropped,
  // marks on both sides of one meet.
  if (vocabulary_.id(detail::space_mark) >= 0 && options_.unk_id >= 0 && !options_.ignore_merges && options_.continuing_subword_prefix.empty() &&
      options_.end_of_word_suffix.empty() &&
      std::none_of(merges.begin(), merges.end(), [&](const Merge& merge) { return detail::crosses_words(vocabulary_.token(merge.merged)); }))
    word_mark_ = detail::space_mark;
  if (options_.byte_fallback) byte_tokens_ = detail::byte_tokens(vocabulary_);
}

PEFT_INLINE Bpe::Target Bpe::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = detail::pair_key(left, right);
  for (std::size_t slot = mix(pair, 0) & (slots_.size() - 1); slots_[slot].pair != free_slot; slot = (slot + 1) & (slots_.size() - 1))
    if (slots_[slot].pair == pair) return slots_[slot].target;
  return {no_rank, -1};
}

/// The piece as one id per character: known, or its bytes, or unknown, or nothing.
PEFT_INLINE void Bpe::characters(std::string_view piece, std::vector<std::int32_t>& symbols, std::vector<std::uint32_t>* lengths) const {
  std::size_t pending = 0;  // bytes of the unknown token that is not yet written
  const auto add = [&](std::int32_t id, std::size_t bytes) {
    symbols.push_back(id);
    if (lengths != nullptr) lengths->push_back(static_cast<std::uint32_t>(bytes));
  };
  std::string changed;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t length = std::min<std::size_t>(unicode::decode(piece, at).length, piece.size() - at);
    std::string_view character = piece.substr(at, length);
    const bool first = at == 0, last = at + length == piece.size();
    at += length;
    if ((!first && !options_.continuing_subword_prefix.empty()) || (last && !options_.end_of_word_suffix.empty())) {
      changed = (first ? "" : options_.continuing_subword_prefix) + std::string(character) + (last ? options_.end_of_word_suffix : "");
      character = changed;
    }
    if (const std::int32_t id = vocabulary_.id(character); id >= 0) {
      if (pending > 0) add(options_.unk_id, pending);
      pending = 0;
      add(id, length);
      continue;
    }
    if (options_.byte_fallback && std::all_of(character.begin(), character.end(), [&](char c) { return byte_tokens_[static_cast<unsigned char>(c)] >= 0; })) {
      for (char c : character) add(byte_tokens_[static_cast<unsigned char>(c)], 1);
      continue;  // a pending unknown stays behind these bytes, as in the reference
    }
    if (options_.unk_id < 0) continue;
    if (pending > 0 && !options_.fuse_unk) add(options_.unk_id, pending), pending = 0;
    pending += length;
  }
  if (pending > 0) add(options_.unk_id, pending);
}

/// A word: the lowest rank is found by looking at all, which for a dozen symbols is faster than any queue.
PEFT_INLINE void Bpe::merge_short(std::vector<std::int32_t>& symbols, std::vector<std::uint32_t>* lengths) const {
  std::vector<Target> targets(symbols.size());  // of the pair (i, i + 1)
  for (std::size_t i = 0; i + 1 < symbols.size(); i++) targets[i] = find(symbols[i], symbols[i + 1]);
  for (std::size_t n = symbols.size(); n > 1; n--) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; i++)
      if (targets[i].rank < targets[best].rank) best = i;
    if (targets[best].rank == no_rank) break;
    symbols[best] = targets[best].merged;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    if (lengths != nullptr) {
      (*lengths)[best] += (*lengths)[best + 1];
      lengths->erase(lengths->begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    targets.erase(targets.begin() + static_cast<std::ptrdiff_t>(best));
    if (best > 0) targets[best - 1] = find(symbols[best - 1], symbols[best]);
    if (best + 2 < n) targets[best] = find(symbols[best], symbols[best + 1]);
  }
}

/// A long piece (no pre-tokenizer, or one without spaces): a linked list and a heap of candidates, n log n. A candidate is stale once the
/// pair at its place merges into something else.
PEFT_INLINE void Bpe::merge_long(std::vector<std::int32_t>& symbols, std::vector<std::uint32_t>* lengths) const {
  struct Candidate {
    std::uint32_t rank;
    std::uint32_t at;
    std::int32_t merged;
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  if (symbols.size() >= no_rank) throw Error("tokenizer.bpe", "a piece of " + std::to_string(symbols.size()) + " characters is too long");
  const auto count = static_cast<std::uint32_t>(symbols.size());
  std::vector<std::uint32_t> next(count), previous(count);
  std::iota(next.begin(), next.end(), 1u);
  for (std::uint32_t i = 0; i < count; i++) previous[i] = i - 1;  // of the first: no_rank, never read as an index
  std::priority_queue<Candidate> candidates;
  const auto offer = [&](std::uint32_t left) {
    if (const Target target = find(symbols[left], symbols[next[left]]); target.rank != no_rank) candidates.push({target.rank, left, target.merged});
  };
  for (std::uint32_t i = 0; i + 1 < count; i++) offer(i);
  while (!candidates.empty()) {
    const Candidate candidate = candidates.top();
    candidates.pop();
    const std::uint32_t left = candidate.at, right = next[left];
    if (symbols[left] < 0 || right >= count || find(symbols[left], symbols[right]).merged != candidate.merged) continue;
    symbols[left] = candidate.merged;
    symbols[right] = -1;
    if (lengths != nullptr) (*lengths)[left] += (*lengths)[right], (*lengths)[right] = 0;
    next[left] = next[right];
    if (next[left] < count) previous[next[left]] = left, offer(left);
    if (left > 0) offer(previous[left]);
  }
  std::erase(symbols, -1);
  if (lengths != nullptr) std::erase(*lengths, 0u);
}

PEFT_INLINE void Bpe::tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans) const {
  if (options_.ignore_merges)
    if (const std::int32_t id = vocabulary_.id(piece); id >= 0) {
      if (spans != nullptr) spans->push_back({0, piece.size()});
      return ids.push_back(id);
    }
  std::vector<std::int32_t> symbols;
  symbols.reserve(piece.size());
  std::vector<std::uint32_t> bytes, *const lengths = spans != nullptr ? &bytes : nullptr;
  characters(piece, symbols, lengths);
  constexpr std::size_t word = 48;
  if (symbols.size() <= word)
    merge_short(symbols, lengths);
  else
    merge_long(symbols, lengths);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  std::size_t begin = 0;
  for (const std::uint32_t length : bytes) spans->push_back({begin, begin + length}), begin += length;
}

PEFT_INLINE std::vector<Merge> merges_of_scores(const Vocabulary& vocabulary, const std::vector<float>& score_of_id) {
  std::vector<float> order = score_of_id;
  std::sort(order.begin(), order.end(), std::greater<>());
  order.erase(std::unique(order.begin(), order.end()), order.end());
  std::vector<Merge> merges;
  for (std::int32_t id = 0; id < vocabulary.end_id() && static_cast<std::size_t>(id) < score_of_id.size(); id++) {
    const std::string_view token = vocabulary.token(id);
    const auto rank = std::lower_bound(order.begin(), order.end(), score_of_id[static_cast<std::size_t>(id)], std::greater<>()) - order.begin();
    for (std::size_t at = 0; at < token.size();) {
      at += unicode::decode(token, at).length;
      if (at >= token.size()) break;
      const std::int32_t left = vocabulary.id(token.substr(0, at)), right = vocabulary.id(token.substr(at));
      if (left >= 0 && right >= 0) merges.push_back({left, right, vocabulary.id(token), static_cast<std::uint32_t>(rank)});
    }
  }
  return merges;
}

}  // namespace peft::tokenizer
