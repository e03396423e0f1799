// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "peft/core/config.hpp"

namespace peft::tokenizer {

/// Tokens and their ids, both ways. All texts lie in one string, the index is an open-addressing table: 150,000 tokens load in milliseconds.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// Throws Error if an id comes twice or is not in [0, 2³¹ - 1). Where a text comes twice the smaller id is its id.
  explicit Vocabulary(const std::vector<std::pair<std::string, std::int32_t>>& tokens);

  std::size_t size() const { return entries_.size(); }
  /// One more than the largest id (ids may have gaps).
  std::int32_t end_id() const { return entries_.empty() ? 0 : entries_.back().id + 1; }
  /// -1 if there is no such token.
  std::int32_t id(std::string_view token) const;
  /// Null data if there is no such id.
  std::string_view token(std::int32_t id) const;

 private:
  struct Entry {
    std::int32_t id;
    std::uint32_t length;
    std::size_t begin;
  };
  std::string_view text(const Entry& entry) const { return std::string_view(texts_).substr(entry.begin, entry.length); }

  std::string texts_;
  std::vector<Entry> entries_;        // by ascending id
  std::vector<std::uint32_t> slots_;  // 1 + index into entries_, 0 = free; a power of two, at most half full
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/vocabulary.inl"
#endif
