// SPDX-License-Identifier: Apache-2.0
#pragma once

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

}  // namespace peft::tokenizer
