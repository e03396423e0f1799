// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>

#include "peft/core/error.hpp"
#include "peft/nn/pass.hpp"

namespace peft {

/// The sequences of a pass with the blanks that their ids (N) have: positions in two dimensions, and a context that all of a sequence sees. A cache remembers
/// the blank of its sequence. Throws Error for a sequence that has none (find_blank), for those that share a beginning, and for ids behind a cached context
/// that do not begin the span.
template <Scalar T>
std::shared_ptr<const Sequences> with_blanks(const Pass<T>& pass, std::span<const std::int32_t> ids, const BlankTokens& tokens) {
  if (pass.sequences->rows() != std::int64_t(ids.size()))
    throw ShapeError("transformer", std::to_string(ids.size()) + " ids for sequences of " + std::to_string(pass.sequences->rows()) + " rows");
  if (std::ranges::all_of(pass.sequences->all(), [](const Sequence& s) { return bool(s.blank); })) return pass.sequences;
  std::vector<Sequence, PoolAllocator<Sequence>> all(pass.sequences->all().begin(), pass.sequences->all().end());
  for (std::size_t i = 0; i < all.size(); i++) {
    Sequence& s = all[i];
    if (s.blank) continue;
    if (s.behind >= 0) throw Error("transformer", "sequences that share a beginning, whose rows have seen all of a context: there is nothing to share");
    const auto own = ids.subspan(std::size_t(s.begin), std::size_t(s.length()));
    KvCache<T>* const cache = pass.caches.empty() ? nullptr : pass.caches[i];
    if (!cache || cache->rows() == 0) {
      s.blank = find_blank(own, tokens, cache != nullptr);
      s.context = s.blank.span_begin;
      s.blank.position += s.first_position, s.blank.span_begin += s.first_position;
      if (cache) cache->blank = s.blank;
      continue;
    }
    if (!cache->blank) throw Error("transformer", "a cache of a sequence without a blank");
    s.blank = cache->blank;
    if (s.first_position == s.blank.span_begin && s.length() > 0 && own[0] != tokens.start)
      throw Error("transformer",
                  "the id " + std::to_string(own[0]) + " behind a context; <sop> (" + std::to_string(tokens.start) + ") begins what fills its blank");
  }
  return std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(all));
}

}  // namespace peft
