// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/config.hpp"
#include "peft/tokenizer/normalizer.hpp"
#include "peft/tokenizer/vocabulary.hpp"

namespace peft::tokenizer {

/// A token that is cut out of the text before the model sees it.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      // left out by decode(skip_special_tokens)
  bool normalized = false;   // looked for in the normalised text, its own content normalised too
  bool single_word = false;  // only where no \w touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space behind it
};

/// A stretch of a text: an added token, or (id -1) what lies between two.
struct Segment {
  std::size_t begin, end;
  std::int32_t id;
};

/// Finds a set of tokens in a text, leftmost-longest, without overlap.
class TokenFinder {
 public:
  TokenFinder() = default;
  /// `contents[i]` is what is looked for on behalf of `tokens[i]`; empty ones are never found.
  TokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& contents);

  /// Appends the segments of the text, which together cover it; none is empty. Special tokens are passed over if `skip_special`.
  void split(std::string_view text, bool skip_special, std::vector<Segment>& segments) const;

 private:
  struct Entry {
    std::string content;
    AddedToken token;
  };
  const Entry* longest_at(std::string_view text, std::size_t at) const;

  std::vector<Entry> entries_;        // by content
  std::vector<std::uint32_t> first_;  // of 257: where the entries with that first byte begin
};

/// All added tokens of a tokenizer: two finders, one before and one behind the normaliser, and their names.
class AddedTokens {
 public:
  AddedTokens() = default;
  AddedTokens(const std::vector<AddedToken>& tokens, const Normalizer* normalizer);

  const TokenFinder& raw() const { return raw_; }
  const TokenFinder& normalized() const { return normalized_; }
  /// Contents as the file has them.
  const Vocabulary& vocabulary() const { return vocabulary_; }
  /// What decode() shows of a token: its content, normalised if the token is. Null data if there is no such id.
  std::string_view shown(std::int32_t id) const { return shown_.token(id); }
  bool is_special(std::int32_t id) const;

 private:
  TokenFinder raw_, normalized_;
  Vocabulary vocabulary_, shown_;
  std::vector<std::int32_t> special_;  // ascending
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/added_tokens.inl"
#endif
