// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/tokenizer/impl/unicode_since_8.inl"
#include "peft/tokenizer/unicode.hpp"

namespace peft::unicode {

PEFT_INLINE Character decode_multibyte(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const std::uint32_t lead = byte(at);
  if (lead < 0x80) return {lead, 1, true};
  // Table 3-7 of the Unicode standard: after some leads the second byte has a narrower range (no overlong forms, no surrogates).
  const std::uint32_t length = lead >= 0xC2 && lead <= 0xDF ? 2 : (lead & 0xF0) == 0xE0 ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
  if (length == 0) return {0xFFFD, 1, false};
  const std::uint32_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  std::uint32_t value = lead & (0xFFu >> (length + 1));
  for (std::uint32_t i = 1; i < length; i++) {
    const std::uint32_t next = byte(at + i);
    if (at + i >= text.size() || next < (i == 1 ? low : 0x80) || next > (i == 1 ? high : 0xBF)) return {0xFFFD, i, false};
    value = value << 6 | (next & 0x3F);
  }
  return {value, length, true};
}

PEFT_INLINE Character decode_before(std::string_view text, std::size_t end) {
  for (std::size_t back = 1; back <= 4 && back <= end; back++)
    if ((static_cast<unsigned char>(text[end - back]) & 0xC0) != 0x80) {
      const Character character = decode(text.substr(0, end), end - back);
      if (character.length == back) return character;
      break;
    }
  return {0xFFFD, 1, false};
}

PEFT_INLINE void append(std::string& text, char32_t c) {
  const auto put = [&](std::uint32_t byte) { text.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  if (c < 0x10000) return put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
}

PEFT_INLINE bool is_valid(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Character character = decode(text, at);
    if (!character.valid) return false;
    at += character.length;
  }
  return true;
}

PEFT_INLINE std::string to_valid(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Character character = decode(text, at);
    if (character.valid)
      valid.append(text.substr(at, character.length));
    else
      valid += "\xEF\xBF\xBD";
    at += character.length;
  }
  return valid;
}

namespace detail {

/// What Unicode 15.1 and 16 added, which Debian 12's utf8proc (Unicode 15) does not know and published tokenizers do. Looked up for characters
/// that are unassigned there; a newer utf8proc answers first.
inline std::uint32_t classes_since_15(char32_t c) {
  struct Range {
    char32_t first, last;
    std::uint32_t classes;
  };
  static constexpr Range ranges[] = {{0x897, 0x897, mark | word},
                                     {0x1B4E, 0x1B4F, punctuation},
                                     {0x1B7F, 0x1B7F, punctuation},
                                     {0x1C89, 0x1C8A, letter | word},
                                     {0xA7CB, 0xA7CD, letter | word},
                                     {0xA7DA, 0xA7DC, letter | word},
                                     {0x105C0, 0x105F3, letter | word},
                                     {0x10D40, 0x10D49, number | decimal | word},
                                     {0x10D4A, 0x10D65, letter | word},
                                     {0x10D69, 0x10D6D, mark | word},
                                     {0x10D6E, 0x10D6E, punctuation},
                                     {0x10D6F, 0x10D85, letter | word},
                                     {0x10EC2, 0x10EC4, letter | word},
                                     {0x10EFC, 0x10EFC, mark | word},
                                     {0x11380, 0x11389, letter | word},
                                     {0x1138B, 0x1138B, letter | word},
                                     {0x1138E, 0x1138E, letter | word},
                                     {0x11390, 0x113B5, letter | word},
                                     {0x113B7, 0x113B7, letter | word},
                                     {0x113B8, 0x113C0, mark | word},
                                     {0x113C2, 0x113C2, mark | word},
                                     {0x113C5, 0x113C5, mark | word},
                                     {0x113C7, 0x113CA, mark | word},
                                     {0x113CC, 0x113D0, mark | word},
                                     {0x113D1, 0x113D1, letter | word},
                                     {0x113D2, 0x113D2, mark | word},
                                     {0x113D3, 0x113D3, letter | word},
                                     {0x113D4, 0x113D5, punctuation},
                                     {0x113D7, 0x113D8, punctuation},
                                     {0x113E1, 0x113E2, mark | word},
                                     {0x116D0, 0x116E3, number | decimal | word},
                                     {0x11BC0, 0x11BE0, letter | word},
                                     {0x11BE1, 0x11BE1, punctuation},
                                     {0x11BF0, 0x11BF9, number | decimal | word},
                                     {0x11F5A, 0x11F5A, mark | word},
                                     {0x13460, 0x143FA, letter | word},
                                     {0x16100, 0x1611D, letter | word},
                                     {0x1611E, 0x1612F, mark | word},
                                     {0x16130, 0x16139, number | decimal | word},
                                     {0x16D40, 0x16D6C, letter | word},
                                     {0x16D6D, 0x16D6F, punctuation},
                                     {0x16D70, 0x16D79, number | decimal | word},
                                     {0x18CFF, 0x18CFF, letter | word},
                                     {0x1CCF0, 0x1CCF9, number | decimal | word},
                                     {0x1E5D0, 0x1E5ED, letter | word},
                                     {0x1E5EE, 0x1E5EF, mark | word},
                                     {0x1E5F0, 0x1E5F0, letter | word},
                                     {0x1E5F1, 0x1E5FA, number | decimal | word},
                                     {0x1E5FF, 0x1E5FF, punctuation},
                                     {0x2EBF0, 0x2EE5D, letter | word}};
  const auto* const at = std::upper_bound(std::begin(ranges), std::end(ranges), c, [](char32_t wanted, const Range& range) { return wanted < range.first; });
  return at != std::begin(ranges) && c <= (at - 1)->last ? (at - 1)->classes : 0;
}

inline std::uint8_t compute_classes(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  std::uint32_t mask = 0;
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      mask = letter | word;
      break;
    case UTF8PROC_CATEGORY_ND:
      mask = number | decimal | word;
      break;
    case UTF8PROC_CATEGORY_NL:
      mask = number | word;
      break;
    case UTF8PROC_CATEGORY_NO:
      mask = number;
      break;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      mask = mark | word;
      break;
    case UTF8PROC_CATEGORY_PC:
      mask = punctuation | word;
      break;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      mask = punctuation;
      break;
    case UTF8PROC_CATEGORY_CN:
      mask = classes_since_15(c);
      break;
    default:
      break;
  }
  if ((c >= 0x09 && c <= 0x0D) || c == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP)
    mask |= space;
  // \w also has Join_Control and the symbols among Alphabetic (circled and squared letters): Unicode TR 18, annex C.
  if (c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
      (c >= 0x1F170 && c <= 0x1F189))
    mask |= word;
  // Oniguruma, which reads the expressions of tokenizer.json, leaves out the joiners and takes the superscripts and fractions of Latin-1.
  const bool latin1_number = c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE);
  if (latin1_number || ((mask & word) != 0 && c != 0x200C && c != 0x200D)) mask |= regex_word;
  return static_cast<std::uint8_t>(mask);
}

}  // namespace detail

PEFT_INLINE std::uint8_t classes_of_non_ascii(char32_t c) {
  static const std::vector<std::uint8_t> basic_plane = [] {
    std::vector<std::uint8_t> table(0x10000);
    for (char32_t i = 0; i < 0x10000; i++) table[i] = detail::compute_classes(i);
    return table;
  }();
  return c < 0x10000 ? basic_plane[c] : detail::compute_classes(c);
}

PEFT_INLINE std::string normalize(std::string_view text, Form form) {
  bool ascii = true;
  for (char c : text) ascii &= static_cast<unsigned char>(c) < 0x80;
  if (ascii) return std::string(text);
  for (std::size_t at = 0; at < text.size();) {
    const Character character = decode(text, at);
    at += character.length;
    if (character.value < 0x300 || (character.value >= 0x3300 && character.value < 0xA7F1)) continue;
    if (!detail::contains(detail::marks_since_8, character.value) && !detail::contains(detail::decompositions_since_8, character.value)) continue;
    std::vector<std::size_t> origins;
    return normalize(text, form, origins);
  }
  int options = UTF8PROC_STABLE | (form == Form::nfc || form == Form::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
  if (form == Form::nfkc || form == Form::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &result,
                                             static_cast<utf8proc_option_t>(options));
  if (size < 0) throw Error("unicode.normalize", std::string(utf8proc_errmsg(size)) + " in a text of " + std::to_string(text.size()) + " bytes");
  std::string normalized(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
  std::free(result);
  return normalized;
}

namespace detail {

/// Lower cases that Unicode 16 and 17 added.
inline char32_t lowercase_since_15(char32_t c) {
  if (c == 0x1C89 || c == 0xA7CC || c == 0xA7CE || c == 0xA7D2 || c == 0xA7D4 || c == 0xA7DA) return c + 1;
  if (c == 0xA7CB) return 0x264;
  if (c == 0xA7DC) return 0x19B;
  if (c >= 0x10D50 && c <= 0x10D65) return c + 0x20;
  if (c >= 0x16EA0 && c <= 0x16EB8) return c + 0x1B;
  return c;
}

}  // namespace detail

PEFT_INLINE void append_lowercase(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  } else if (c == 0x130) {
    text += "i\xCC\x87";
  } else {
    const auto lower = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
    append(text, lower == c ? detail::lowercase_since_15(c) : lower);
  }
}

PEFT_INLINE void append_uppercase(std::string& text, char32_t c) {
  if (c == 0xDF)
    text += "SS";
  else
    append(text, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

PEFT_INLINE std::string lowercase(std::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Character character = decode(text, at);
    at += character.length;
    append_lowercase(lower, character.value);
  }
  return lower;
}

PEFT_INLINE bool is_bert_punctuation(char32_t c) {
  if (c < 0x80) return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) || (c >= 0x7B && c <= 0x7E);
  if (c == 0x166D || c == 0x111C9) return true;  // were punctuation
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO && !detail::contains(detail::punctuation_since_8, c);
}

PEFT_INLINE bool is_bert_control(char32_t c) {
  if (c < 0x80) return (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category != UTF8PROC_CATEGORY_CC && category != UTF8PROC_CATEGORY_CF && category != UTF8PROC_CATEGORY_CO) return false;
  return !((c >= 0x890 && c <= 0x891) || c == 0x8E2 || c == 0x110CD || (c >= 0x13430 && c <= 0x1343F));
}

PEFT_INLINE bool is_bert_accent(char32_t c) {
  if (c < 0x300) return false;
  return c == 0x1734 || (utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_MN && !detail::contains(detail::nonspacing_since_8, c));
}

PEFT_INLINE bool is_combining_mark(char32_t c) {
  if (c < 0x300) return false;
  if (c >= 0x1CF2 && c <= 0x1CF3) return true;  // were marks
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return (category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME) &&
         !detail::contains(detail::marks_since_8, c);
}

PEFT_INLINE std::string normalize(std::string_view text, Form form, std::vector<std::size_t>& origins) {
  // As the crate unicode-normalization-alignments, which tokenizers uses, counts: `change` is +1 for a character that a decomposition adds, less one for
  // each that a composition takes away. Places follow from the changes alone, so marks that change their order do not take their places along.
  struct Mark {
    utf8proc_int32_t value;
    int order;  // canonical combining class; what that crate does not know has none
    int change;
  };
  const bool composes = form == Form::nfc || form == Form::nfkc;
  const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (form == Form::nfkc || form == Form::nfkd ? UTF8PROC_COMPAT : 0);
  std::vector<Mark> marks;
  std::vector<std::size_t> starts;
  for (std::size_t at = 0; at < text.size();) {
    const Character character = decode(text, at);
    starts.push_back(at);
    utf8proc_int32_t parts[32];  // the longest decomposition has 18
    parts[0] = static_cast<utf8proc_int32_t>(character.value);
    const bool stays = detail::contains(detail::decompositions_since_8, character.value);
    const utf8proc_ssize_t n =
        stays ? 1 : utf8proc_decompose_char(static_cast<utf8proc_int32_t>(character.value), parts, 32, static_cast<utf8proc_option_t>(options), nullptr);
    if (n < 0 || n > 32) throw Error("unicode.normalize", n < 0 ? utf8proc_errmsg(n) : "a decomposition is too long");
    for (utf8proc_ssize_t i = 0; i < n; i++) {
      const bool known = !detail::contains(detail::marks_since_8, static_cast<char32_t>(parts[i]));
      marks.push_back({parts[i], known ? utf8proc_get_property(parts[i])->combining_class : 0, i > 0 ? 1 : 0});
    }
    at += character.length;
  }
  for (auto first = marks.begin(); first != marks.end();) {  // canonical order: marks between two starters by their classes
    if (first->order == 0) {
      ++first;
      continue;
    }
    const auto last = std::find_if(first, marks.end(), [](const Mark& mark) { return mark.order == 0; });
    std::stable_sort(first, last, [](const Mark& a, const Mark& b) { return a.order < b.order; });
    first = last;
  }
  if (composes) {
    // Each character joins the last starter if the pair is one and nothing of its class or above stands between.
    constexpr std::size_t none = ~std::size_t{0};
    std::vector<Mark> composed;
    std::size_t starter = none;
    for (const Mark& mark : marks) {
      const bool adjacent = starter != none && starter + 1 == composed.size();
      if (starter != none && (adjacent || (composed.back().order != 0 && composed.back().order < mark.order))) {
        utf8proc_int32_t pair[4] = {composed[starter].value, mark.value};
        if (utf8proc_normalize_utf32(pair, 2, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE)) == 1) {
          composed[starter].value = pair[0];
          composed[starter].change += mark.change - 1;
          continue;
        }
      }
      if (mark.order == 0) starter = composed.size();
      composed.push_back(mark);
    }
    marks.swap(composed);
  }
  std::string normalized;
  origins.clear();
  std::size_t next = 0;
  for (const Mark& mark : marks) {
    append(normalized, static_cast<char32_t>(mark.value));
    const std::size_t place = mark.change > 0 && next > 0 ? next - 1 : next;
    origins.push_back(starts[std::min(place, starts.size() - 1)]);
    if (mark.change <= 0) next += static_cast<std::size_t>(1 - mark.change);
  }
  return normalized;
}

namespace detail {

struct ByteAlphabet {
  std::array<std::array<char, 2>, 256> text{};
  std::array<std::uint8_t, 256> length{};
  std::array<std::int16_t, 0x144> byte{};  // the last visible character is U+0143

  ByteAlphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (unsigned b = 0; b < 256; b++) {
      const bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t character = itself ? b : next++;
      std::string utf8;
      append(utf8, character);
      for (std::size_t i = 0; i < utf8.size(); i++) text[b][i] = utf8[i];
      length[b] = static_cast<std::uint8_t>(utf8.size());
      byte[character] = static_cast<std::int16_t>(b);
    }
  }
  static const ByteAlphabet& get() {
    static const ByteAlphabet alphabet;
    return alphabet;
  }
};

}  // namespace detail

PEFT_INLINE std::string_view byte_to_visible(unsigned char byte) {
  const auto& alphabet = detail::ByteAlphabet::get();
  return {alphabet.text[byte].data(), alphabet.length[byte]};
}

PEFT_INLINE int visible_to_byte(char32_t character) {
  const auto& alphabet = detail::ByteAlphabet::get();
  return character < alphabet.byte.size() ? alphabet.byte[character] : -1;
}

}  // namespace peft::unicode
