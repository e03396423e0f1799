// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "peft/core/config.hpp"

namespace peft::tokenizer {

class RegexEngine;

/// What a Split or a Replace looks for: a string, or a regular expression. Those of GPT-2, Llama 3 and Qwen 2 are scanners written by hand (an
/// order of magnitude faster than an engine), and one repeated character class (`\p{N}{1,3}`, ` {2,}`, `\s+`, `[0-9]`) is read from its text. Any
/// other one is run by Oniguruma where the library was configured with it (PEFT_ONIGURUMA). Matches are always those of Oniguruma.
class Pattern {
 public:
  static Pattern literal(std::string text);
  /// Throws FormatError(path) that quotes an expression which is not known, or is none.
  static Pattern regex(std::string_view expression, std::string_view path);
  /// \w+|[^\w\s]+ with the \w of Unicode, not Oniguruma's: what the pre-tokenizer Whitespace looks for.
  static Pattern words();

  /// One character of punctuation, as BERT counts it: all of ASCII's symbols, and Unicode's P.
  static Pattern punctuation();
  /// Pieces of `length` characters; the last may be shorter.
  static Pattern chunks(std::size_t length);

  /// The leftmost match in text[from, …), never empty. False if there is none.
  bool find(std::string_view text, std::size_t from, std::size_t& begin, std::size_t& end) const;

 private:
  /// The end of the match that begins at `at`, or `at` if none does.
  using Scanner = std::size_t (*)(std::string_view text, std::size_t at);
  enum class Kind { literal, scanner, repeated, engine };

  bool accepts(char32_t character) const;

  Kind kind_ = Kind::literal;
  std::string literal_;
  Scanner scanner_ = nullptr;
  std::shared_ptr<const RegexEngine> engine_;
  std::uint8_t classes_ = 0;          // repeated: any of these classes,
  bool negated_ = false;              // none of them,
  char32_t low_ = 1, high_ = 0;       // or a character in [low, high],
  std::size_t least_ = 1, most_ = 1;  // so many times, as many as possible
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/pattern.inl"
#endif
