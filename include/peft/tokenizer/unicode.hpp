// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/config.hpp"

/// UTF-8 and the character properties that tokenizers speak of (by utf8proc; categories are those of Unicode 16).
namespace peft::unicode {

/// A character and the number of bytes that it takes. What is not UTF-8 reads as U+FFFD, one for each maximal broken part (as a browser
/// or Rust's from_utf8_lossy does).
struct Character {
  char32_t value;
  std::uint32_t length;
  bool valid;
};

/// The character whose first byte is text[at], at < text.size().
Character decode_multibyte(std::string_view text, std::size_t at);
inline Character decode(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  return byte < 0x80 ? Character{byte, 1, true} : decode_multibyte(text, at);
}
/// The character that ends at `end`, 0 < end ≤ text.size().
Character decode_before(std::string_view text, std::size_t end);
void append(std::string& text, char32_t character);

bool is_valid(std::string_view text);
/// The text with U+FFFD in place of everything that is not UTF-8.
std::string to_valid(std::string_view text);

/// Properties, to be combined as a mask.
enum Class : std::uint8_t {
  letter = 1,        // \p{L}
  number = 2,        // \p{N}
  decimal = 4,       // \p{Nd}, \d
  space = 8,         // \s: White_Space
  word = 16,         // \w of Unicode TR 18: letters, marks, decimal and letter numbers, connectors, joiners
  punctuation = 32,  // \p{P}
  mark = 64,         // \p{M}
  regex_word = 128,  // \w of Oniguruma: without the joiners, with ² ³ ¹ ¼ ½ ¾
};
std::uint8_t classes_of_non_ascii(char32_t character);
inline constexpr std::array<std::uint8_t, 128> ascii_classes = [] {
  std::array<std::uint8_t, 128> table{};
  for (unsigned c = 0; c < 128; c++) {
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
      table[c] = letter | word | regex_word;
    else if (c >= '0' && c <= '9')
      table[c] = number | decimal | word | regex_word;
    else if ((c >= 0x09 && c <= 0x0D) || c == ' ')
      table[c] = space;
    else if (c == '_')
      table[c] = punctuation | word | regex_word;
    else if (c > ' ' && c < 0x7F && c != '$' && c != '+' && c != '<' && c != '=' && c != '>' && c != '^' && c != '`' && c != '|' && c != '~')
      table[c] = punctuation;
  }
  return table;
}();
inline std::uint8_t classes_of(char32_t character) { return character < 0x80 ? ascii_classes[character] : classes_of_non_ascii(character); }
inline bool is(char32_t character, std::uint8_t mask) { return (classes_of(character) & mask) != 0; }

/// What Hugging Face's tokenizers means by punctuation (ASCII's symbols too), by a control character that BERT drops, by a nonspacing mark
/// (BERT's accents) and by any combining mark (StripAccents). Its tables are older: what came after Unicode 8 is left out.
bool is_bert_punctuation(char32_t character);
bool is_bert_control(char32_t character);
bool is_bert_accent(char32_t character);
bool is_combining_mark(char32_t character);

enum class Form { nfc, nfd, nfkc, nfkd };
/// Marks that came after Unicode 8 are not reordered, as in Hugging Face's tokenizers.
std::string normalize(std::string_view text, Form form);
/// The same, and for each character of the result the byte of `text` where the character begins that it stands for; marks that are put into another order
/// keep the places in order, as in Hugging Face's tokenizers.
std::string normalize(std::string_view text, Form form, std::vector<std::size_t>& origins);
/// Character by character, as Rust's char::to_lowercase (no context, İ becomes two characters).
std::string lowercase(std::string_view text);
/// The lower case of one character, appended.
void append_lowercase(std::string& text, char32_t character);
/// The upper case of one character, appended; ß becomes SS.
void append_uppercase(std::string& text, char32_t character);

/// GPT-2's alphabet of bytes: printable Latin-1 stands for itself, the other 68 bytes for U+0100, U+0101, … in order, so that any bytes
/// become visible characters without spaces.
std::string_view byte_to_visible(unsigned char byte);
/// -1 for a character outside of that alphabet.
int visible_to_byte(char32_t character);

}  // namespace peft::unicode

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/unicode.inl"
#endif
