// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/nn/front.hpp"

#include <algorithm>

#include "peft/core/error.hpp"
#include "peft/core/labels.hpp"

namespace peft {

PEFT_INLINE FrontedRows with_fronts(std::span<const Front> fronts, const Sequences& sequences, std::span<const std::int32_t> ids,
                                    std::span<const std::int32_t> targets) {
  FrontedRows rows;
  std::vector<Sequence, PoolAllocator<Sequence>> all;
  for (Sequence s : sequences.all()) {
    const Front front = std::size_t(s.active) < fronts.size() ? fronts[std::size_t(s.active)] : Front();
    if (!front.empty() && s.behind >= 0) throw Error("forward", "sequences that share a beginning go with neither prefixes nor virtual tokens");
    if (front.tokens > 0 && (s.task < 0 || s.task >= front.tasks))
      throw Error("forward", "a sequence of task " + std::to_string(s.task) + "; the adapter has tasks 0 to " + std::to_string(front.tasks - 1));
    if (front.placed > 0 && std::none_of(ids.begin() + s.begin, ids.begin() + s.end, [&](std::int32_t id) { return id >= front.first_id; }))
      throw Error("forward", "a sequence without any of the virtual tokens that its adapter's token_template places; PlacedPrompt makes such sequences");
    const std::int64_t begin = std::int64_t(rows.ids.size());
    for (std::int64_t i = 0; i < front.tokens; i++) {
      rows.ids.push_back(front.first_id + std::int32_t(s.task * front.stride + i));
      if (!targets.empty()) rows.targets.push_back(ignore_index);
    }
    for (std::int64_t row = s.begin; row < s.end; row++) {
      rows.place.push_back(std::int64_t(rows.ids.size()));
      rows.ids.push_back(ids[std::size_t(row)]);
      if (!targets.empty()) rows.targets.push_back(targets[std::size_t(row)]);
    }
    s.begin = begin, s.end = std::int64_t(rows.ids.size()), s.first_position += front.positions;
    if (s.context > 0) s.context += front.tokens;
    if (s.blank) s.blank.position += front.tokens + front.positions, s.blank.span_begin += front.tokens + front.positions;
    all.push_back(s);
  }
  rows.sequences = std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(all));
  return rows;
}

}  // namespace peft
