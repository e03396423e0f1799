// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/config.hpp"

namespace peft::tokenizer {

/// sentencepiece's character map: a double-array trie (Yata et al. 2007, as darts-clone stores it) from UTF-8 to replacements.
class CharacterMap {
 public:
  CharacterMap() = default;
  /// The size of the trie in bytes (u32, little-endian), its units (u32), then the replacements, each ended by a zero. An empty blob maps nothing.
  /// Throws Error if the sizes do not fit.
  explicit CharacterMap(std::string_view blob);

  struct Match {
    std::size_t length;            // bytes of the key, 0 if there is none
    std::string_view replacement;  // may be empty: the key is dropped
  };
  Match shortest(std::string_view text) const { return find(text, true); }
  Match longest(std::string_view text) const { return find(text, false); }

 private:
  Match find(std::string_view text, bool first) const;

  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/charsmap.inl"
#endif
