// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/nn/sequences.hpp"

namespace peft {

PEFT_INLINE Sequences::Sequences(std::vector<Sequence, PoolAllocator<Sequence>> all) : all_(std::move(all)) {
  auto positions = std::allocate_shared<Ids>(PoolAllocator<Ids>());
  auto keys = std::allocate_shared<RowKeys>(PoolAllocator<RowKeys>());
  std::shared_ptr<Ids> blocks;
  if (std::ranges::any_of(all_, [](const Sequence& s) { return bool(s.blank); })) blocks = std::allocate_shared<Ids>(PoolAllocator<Ids>());
  std::int64_t row = 0;
  for (const Sequence& s : all_) {
    if (s.begin != row || s.end < s.begin)
      throw ShapeError("sequences", "a sequence at rows " + std::to_string(s.begin) + ".." + std::to_string(s.end) + " behind row " + std::to_string(row) +
                                        "; packed sequences follow each other");
    if (const std::size_t i = std::size_t(&s - all_.data()); s.behind >= 0 && (std::size_t(s.behind) >= i || all_[std::size_t(s.behind)].behind >= 0))
      throw ShapeError("sequences", "sequence " + std::to_string(i) + " is behind sequence " + std::to_string(s.behind) +
                                        "; that must be an earlier one, and itself behind none");
    for (; row < s.end; row++) {
      const std::int64_t position = s.first_position + row - s.begin;
      const bool fills = s.blank && position >= s.blank.span_begin;
      const std::int64_t block = fills ? position - s.blank.span_begin + 1 : 0;
      positions->push_back(std::int32_t(fills ? s.blank.position : position));
      if (blocks) blocks->push_back(std::int32_t(block));
      keys->push_back(mix(s.id, std::uint64_t(position)));
      last_position_ = std::max({last_position_, std::int64_t(positions->back()), block});
    }
  }
  positions_ = std::move(positions), block_positions_ = std::move(blocks), row_keys_ = std::move(keys);
}

PEFT_INLINE std::shared_ptr<const Sequences> Sequences::of_lengths(std::span<const std::int64_t> lengths) {
  std::vector<Sequence, PoolAllocator<Sequence>> all;
  std::int64_t row = 0;
  for (std::int64_t length : lengths) {
    Sequence s;
    s.begin = row, s.end = row += length, s.id = all.size();
    all.push_back(s);
  }
  return std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(all));
}

PEFT_INLINE std::int64_t Sequences::longest() const {
  std::int64_t most = 0;
  for (const Sequence& s : all_) most = std::max(most, s.length());
  return most;
}

}  // namespace peft
