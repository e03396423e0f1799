// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/core/config.hpp"
#include "peft/tokenizer/encoding.hpp"

namespace peft {

PEFT_INLINE void pad(std::vector<Encoding>& batch, const Padding& padding) {
  std::size_t length = padding.length.value_or(0);
  if (!padding.length)
    for (const Encoding& encoding : batch) length = std::max(length, encoding.size());
  if (padding.multiple_of > 1) length = (length + padding.multiple_of - 1) / padding.multiple_of * padding.multiple_of;
  for (Encoding& encoding : batch) {
    if (encoding.size() >= length) continue;
    const std::size_t missing = length - encoding.size();
    const auto fill = [&](auto& list, auto value) { list.insert(padding.left ? list.begin() : list.end(), missing, value); };
    fill(encoding.ids, padding.id), fill(encoding.type_ids, padding.type_id), fill(encoding.offsets, Offsets{});
    fill(encoding.special, std::uint8_t{1}), fill(encoding.mask, std::uint8_t{0}), fill(encoding.sequence, std::int32_t{-1});
  }
}

}  // namespace peft
