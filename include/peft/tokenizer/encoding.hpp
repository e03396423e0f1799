// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace peft {

/// Characters (code points) [begin, end) of a text; {0, 0} for what does not come from it.
struct Offsets {
  std::size_t begin = 0, end = 0;
  bool operator==(const Offsets&) const = default;
};

/// A text, or a pair of texts, as ids, with everything that models and labellers ask about each. All lists are of the same length.
struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> type_ids;  // 0 and 1 for BERT's two segments
  std::vector<Offsets> offsets;        // into the text that the id comes from
  std::vector<std::uint8_t> special;   // 1 for what was put around the text, and for padding
  std::vector<std::uint8_t> mask;      // 0 for padding
  std::vector<std::int32_t> sequence;  // which text the id comes from, 0 or 1; −1 for none

  std::size_t size() const { return ids.size(); }
};

/// How a text that is too long is cut.
struct Truncation {
  enum class Strategy { longest_first, only_first, only_second };
  std::size_t max_length = 512;  // of the whole, special tokens included
  Strategy strategy = Strategy::longest_first;
  bool left = false;  // drop the beginning, not the end
};

/// How a batch is filled up to one length.
struct Padding {
  std::optional<std::size_t> length = {};  // without it, that of the longest
  std::size_t multiple_of = 1;
  bool left = false;
  std::int32_t id = 0, type_id = 0;
};

/// Fills all up to the same length. What is longer stays as it is.
void pad(std::vector<Encoding>& batch, const Padding& padding);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/encoding.inl"
#endif
