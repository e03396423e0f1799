// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "peft/tokenizer/vocabulary.hpp"

namespace peft::tokenizer::detail {

/// The ids of "<0x00>" … "<0xFF>", -1 where there is none.
inline std::vector<std::int32_t> byte_tokens(const Vocabulary& vocabulary) {
  std::vector<std::int32_t> ids;
  for (unsigned byte = 0; byte < 256; byte++) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    ids.push_back(vocabulary.id(std::string("<0x") + digits[byte >> 4] + digits[byte & 15] + ">"));
  }
  return ids;
}

/// sentencepiece's "▁", which stands for a space.
inline constexpr std::string_view space_mark = "\xE2\x96\x81";

/// True if the token has a "▁" behind another character: it reaches across the border between two words.
inline bool crosses_words(std::string_view token) {
  for (std::size_t at = token.find(space_mark); at != token.npos; at = token.find(space_mark, at + 1))
    if (at > 0 && !token.substr(0, at).ends_with(space_mark)) return true;
  return false;
}

}  // namespace peft::tokenizer::detail
