// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/tokenizer/added_tokens.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft::tokenizer {

PEFT_INLINE TokenFinder::TokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& contents) {
  for (std::size_t i = 0; i < tokens.size(); i++)
    if (!contents[i].empty()) entries_.push_back({contents[i], std::move(tokens[i])});
  std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.content < b.content; });
  // of equal contents the first given counts
  entries_.erase(std::unique(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.content == b.content; }), entries_.end());
  first_.assign(257, 0);
  for (const Entry& entry : entries_) first_[static_cast<unsigned char>(entry.content[0]) + std::size_t{1}]++;
  for (std::size_t i = 0; i < 256; i++) first_[i + 1] += first_[i];
}

/// Narrows the sorted entries to those that continue as the text does, byte by byte; an entry that ends on the way is a match.
PEFT_INLINE const TokenFinder::Entry* TokenFinder::longest_at(std::string_view text, std::size_t at) const {
  const auto byte = static_cast<unsigned char>(text[at]);
  auto low = entries_.begin() + static_cast<std::ptrdiff_t>(first_[byte]), high = entries_.begin() + static_cast<std::ptrdiff_t>(first_[byte + std::size_t{1}]);
  const Entry* longest = nullptr;
  for (std::size_t depth = 1; low != high; depth++) {
    if (low->content.size() == depth) longest = &*low++;
    if (at + depth >= text.size()) break;
    const auto next = static_cast<unsigned char>(text[at + depth]);
    low = std::partition_point(low, high, [&](const Entry& entry) { return static_cast<unsigned char>(entry.content[depth]) < next; });
    high = std::partition_point(low, high, [&](const Entry& entry) { return static_cast<unsigned char>(entry.content[depth]) == next; });
  }
  return longest;
}

PEFT_INLINE void TokenFinder::split(std::string_view text, bool skip_special, std::vector<Segment>& segments) const {
  std::size_t covered = 0;
  for (std::size_t at = 0; at < text.size() && !entries_.empty();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    const Entry* const found = first_[byte] == first_[byte + std::size_t{1}] ? nullptr : longest_at(text, at);
    if (found == nullptr) {
      at++;
      continue;
    }
    std::size_t begin = at, end = at + found->content.size();
    at = end;
    const AddedToken& token = found->token;
    if (skip_special && token.special) continue;
    if (token.single_word && ((begin > 0 && unicode::is(unicode::decode_before(text, begin).value, unicode::word)) ||
                              (end < text.size() && unicode::is(unicode::decode(text, end).value, unicode::word))))
      continue;
    if (begin < covered) continue;  // an rstrip before it has taken its beginning
    if (token.lstrip)
      while (begin > covered) {
        const unicode::Character before = unicode::decode_before(text, begin);
        if (!unicode::is(before.value, unicode::space)) break;
        begin -= before.length;
      }
    if (token.rstrip)
      while (end < text.size()) {
        const unicode::Character behind = unicode::decode(text, end);
        if (!unicode::is(behind.value, unicode::space)) break;
        end += behind.length;
      }
    if (covered < begin) segments.push_back({covered, begin, -1});
    segments.push_back({begin, end, token.id});
    covered = end;
  }
  if (covered < text.size()) segments.push_back({covered, text.size(), -1});
}

PEFT_INLINE AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens, const Normalizer* normalizer) {
  std::vector<AddedToken> ordered = tokens;  // of equal contents a special token comes first
  std::stable_sort(ordered.begin(), ordered.end(), [](const AddedToken& a, const AddedToken& b) { return a.special && !b.special; });
  std::vector<AddedToken> groups[2];
  std::vector<std::string> contents[2];
  std::vector<std::pair<std::string, std::int32_t>> names, shown;
  for (const AddedToken& token : ordered) {
    groups[token.normalized].push_back(token);
    contents[token.normalized].push_back(token.content);
    if (token.normalized && normalizer != nullptr) contents[1].back() = (*normalizer)(token.content);
    names.emplace_back(token.content, token.id);
    shown.emplace_back(contents[token.normalized].back(), token.id);
    if (token.special) special_.push_back(token.id);
  }
  raw_ = TokenFinder(std::move(groups[0]), contents[0]);
  normalized_ = TokenFinder(std::move(groups[1]), contents[1]);
  vocabulary_ = Vocabulary(names), shown_ = Vocabulary(shown);
  std::sort(special_.begin(), special_.end());
}

PEFT_INLINE bool AddedTokens::is_special(std::int32_t id) const { return std::binary_search(special_.begin(), special_.end(), id); }

}  // namespace peft::tokenizer
