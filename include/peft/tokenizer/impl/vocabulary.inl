// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <functional>
#include <limits>

#include "peft/core/error.hpp"
#include "peft/tokenizer/vocabulary.hpp"

namespace peft::tokenizer {

PEFT_INLINE Vocabulary::Vocabulary(const std::vector<std::pair<std::string, std::int32_t>>& tokens) {
  if (tokens.size() >= std::numeric_limits<std::uint32_t>::max()) throw Error("vocabulary", "too many tokens: " + std::to_string(tokens.size()));
  std::size_t bytes = 0, capacity = 16;
  for (const auto& [token, id] : tokens) bytes += token.size();
  texts_.reserve(bytes), entries_.reserve(tokens.size());
  for (const auto& [token, id] : tokens) {
    if (id < 0 || id == std::numeric_limits<std::int32_t>::max())
      throw Error("vocabulary", "token \"" + token + "\" has the id " + std::to_string(id) + "; ids are 0 to 2147483646");
    entries_.push_back({id, static_cast<std::uint32_t>(token.size()), texts_.size()});
    texts_ += token;
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.id < b.id; });
  while (capacity < 2 * tokens.size()) capacity *= 2;
  slots_.assign(capacity, 0);
  for (std::uint32_t i = 0; i < entries_.size(); i++) {
    const std::string_view token = text(entries_[i]);
    if (i > 0 && entries_[i - 1].id == entries_[i].id)
      throw Error("vocabulary",
                  "tokens \"" + std::string(text(entries_[i - 1])) + "\" and \"" + std::string(token) + "\" share the id " + std::to_string(entries_[i].id));
    std::size_t slot = std::hash<std::string_view>{}(token) & (capacity - 1);
    while (slots_[slot] != 0 && text(entries_[slots_[slot] - 1]) != token) slot = (slot + 1) & (capacity - 1);
    if (slots_[slot] == 0) slots_[slot] = i + 1;
  }
}

PEFT_INLINE std::int32_t Vocabulary::id(std::string_view token) const {
  if (slots_.empty()) return -1;
  const std::size_t last = slots_.size() - 1;
  for (std::size_t slot = std::hash<std::string_view>{}(token)&last; slots_[slot] != 0; slot = (slot + 1) & last)
    if (const Entry& entry = entries_[slots_[slot] - 1]; text(entry) == token) return entry.id;
  return -1;
}

PEFT_INLINE std::string_view Vocabulary::token(std::int32_t id) const {
  if (id < 0) return {};
  if (const auto i = static_cast<std::size_t>(id); i < entries_.size() && entries_[i].id == id) return text(entries_[i]);  // no gaps below
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), id, [](const Entry& entry, std::int32_t wanted) { return entry.id < wanted; });
  return at == entries_.end() || at->id != id ? std::string_view{} : text(*at);
}

}  // namespace peft::tokenizer
