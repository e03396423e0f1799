// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utf8proc.h>

#include <algorithm>

#include "peft/core/error.hpp"
#include "peft/tokenizer/charsmap.hpp"

namespace peft::tokenizer {

PEFT_INLINE CharacterMap::CharacterMap(std::string_view blob) {
  if (blob.empty()) return;
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++) value |= std::uint32_t{static_cast<unsigned char>(blob[at + i])} << (8 * i);
    return value;
  };
  const std::size_t size = blob.size() < 4 ? 0 : word(0);
  if (size == 0 || size % 4 != 0 || size > blob.size() - 4)
    throw Error("charsmap", "a character map of " + std::to_string(blob.size()) + " bytes cannot have a trie of " + std::to_string(size));
  units_.resize(size / 4);
  for (std::size_t i = 0; i < units_.size(); i++) units_[i] = word(4 + 4 * i);
  replacements_.assign(blob.substr(4 + size));
}

// A unit: bits 0-7 and 31 its label, bit 8 "a key ends here", bits 10-30 the offset of its children, times 256 if bit 9 is set; of a leaf, the value.
PEFT_INLINE CharacterMap::Match CharacterMap::find(std::string_view text, bool first) const {
  Match match{0, {}};
  const auto offset = [](std::uint32_t unit) { return std::size_t{unit >> 10} << ((unit & (1u << 9)) >> 6); };
  if (units_.empty()) return match;
  std::size_t node = offset(units_[0]);
  for (std::size_t i = 0; i < text.size() && text[i] != '\0'; i++) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size()) break;
    const std::uint32_t unit = units_[node];
    if ((unit & (1u << 31 | 0xFF)) != byte) break;
    node ^= offset(unit);
    if ((unit >> 8 & 1) == 0) continue;
    if (node >= units_.size()) break;
    const std::size_t value = units_[node] & ((1u << 31) - 1);
    if (value > replacements_.size()) break;
    const std::string_view rest = std::string_view(replacements_).substr(value);
    match = {i + 1, rest.substr(0, std::min(rest.find('\0'), rest.size()))};
    if (first) break;
  }
  return match;
}

namespace detail {

/// The end of the grapheme that begins at `at`.
inline std::size_t grapheme_end(std::string_view text, std::size_t at) {
  unicode::Character before = unicode::decode(text, at);
  std::size_t end = at + before.length;
  utf8proc_int32_t state = 0;
  while (end < text.size()) {
    const unicode::Character next = unicode::decode(text, end);
    if (before.value < 0x80 && next.value < 0x80 && !(before.value == '\r' && next.value == '\n')) break;
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(before.value), static_cast<utf8proc_int32_t>(next.value), &state)) break;
    end += next.length;
    before = next;
  }
  return end;
}

inline std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace detail

PEFT_INLINE void Precompiled::apply(AlignedText& text) const {
  // Of each new character how many old ones it adds (1) or takes away (below 0) besides its own. Characters that are dropped in front of the first
  // one that stays are not counted, as in tokenizers: what follows has then the offsets of earlier characters.
  std::vector<std::int64_t> changes;
  std::string result;
  const std::string_view old = text.text;
  const auto replace = [&](std::size_t from, std::string_view with) {
    result += with;
    const auto added = static_cast<std::int64_t>(detail::count_characters(with));
    const std::int64_t more = added - static_cast<std::int64_t>(from);
    changes.insert(changes.end(), static_cast<std::size_t>(added), 0);
    for (std::int64_t i = 0; i < more; i++) changes[changes.size() - 1 - static_cast<std::size_t>(i)] = 1;
    if (more < 0 && !changes.empty()) changes.back() += more;
  };
  for (std::size_t at = 0; at < old.size();) {
    const std::size_t end = detail::grapheme_end(old, at);
    const CharacterMap::Match whole = end - at < 6 ? map_.shortest(old.substr(at, end - at)) : CharacterMap::Match{0, {}};
    if (whole.length > 0) {
      replace(detail::count_characters(old.substr(at, end - at)), whole.replacement);
      at = end;
    }
    while (at < end) {
      const std::string_view character = old.substr(at, unicode::decode(old, at).length);
      const CharacterMap::Match match = map_.shortest(character);
      replace(1, match.length > 0 ? match.replacement : character);
      at += character.size();
    }
  }
  if (!text.aligned) {
    text.text.swap(result);
    return;
  }
  std::vector<std::size_t> starts;
  for (std::size_t at = 0; at < old.size(); at += unicode::decode(old, at).length) starts.push_back(at);
  Rewriter out(text);
  std::size_t at = 0, next = 0;
  for (const std::int64_t change : changes) {
    const std::size_t length = unicode::decode(result, at).length, place = change > 0 && next > 0 ? next - 1 : next;
    out.put(std::string_view(result).substr(at, length), starts[std::min(place, starts.size() - 1)]);
    at += length;
    if (change <= 0) next += static_cast<std::size_t>(1 - change);
  }
  out.finish();
}

}  // namespace peft::tokenizer
