// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>

#include "peft/core/error.hpp"
#include "peft/core/fwd.hpp"
#include "peft/nn/blank.hpp"

namespace peft {

PEFT_INLINE Blank find_blank(std::span<const std::int32_t> ids, const BlankTokens& tokens, bool open) {
  const auto place = [&](std::int32_t id) { return std::int64_t(std::ranges::find(ids, id) - ids.begin()); };
  const auto n = std::int64_t(ids.size());
  Blank blank{place(tokens.gmask), place(tokens.start)};
  if (blank.position == n) blank.position = place(tokens.mask);
  if (blank.position == n)
    throw Error("transformer", "a sequence without [gMASK] (" + std::to_string(tokens.gmask) + ") or [MASK] (" + std::to_string(tokens.mask) +
                                   "); this model fills the blank that one of them stands for");
  if (blank.span_begin == n && !open)
    throw Error("transformer", "a sequence without <sop> (" + std::to_string(tokens.start) + "), which stands between the context and what fills its blank");
  return blank;
}

}  // namespace peft
