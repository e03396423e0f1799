// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/train/objective.hpp"

namespace peft {

PEFT_INLINE std::int64_t shared_beginning(const Batch& batch) {
  constexpr std::int64_t worth = 4;
  if (batch.size() < 2) return 0;
  const auto first = batch.offsets[0];
  std::int64_t shared = first.length();
  for (const auto& range : batch.offsets) {
    // A row of its own is left to each sequence, and the row ahead of its first label is among them.
    shared = std::min(shared, range.length() - 1);
    const auto ids = batch.input_ids.begin();
    shared = std::mismatch(ids + first.begin, ids + first.begin + std::max<std::int64_t>(shared, 0), ids + range.begin).first - (ids + first.begin);
    for (std::int64_t i = 1; i <= shared; i++)
      if (batch.labels[std::size_t(range.begin + i)] != ignore_index) shared = i - 1;
  }
  return shared < worth ? 0 : shared;
}

PEFT_INLINE BatchRows rows_of(const Batch& batch, bool share_beginning, bool next) {
  const std::int64_t shared = share_beginning ? shared_beginning(batch) : 0;
  BatchRows rows;
  std::vector<Sequence, PoolAllocator<Sequence>> all;
  const auto append = [&](std::size_t i, std::int64_t first, std::int64_t end) {
    const std::int64_t begin = batch.offsets[i].begin;
    Sequence s;
    s.begin = std::int64_t(rows.input_ids.size()), s.end = s.begin + end - first, s.first_position = first;
    s.id = i < batch.example.size() ? batch.example[i] : i;
    if (first > 0) s.behind = 0;
    for (std::int64_t t = begin + first; t < begin + end; t++) {
      rows.input_ids.push_back(batch.input_ids[std::size_t(t)]);
      const std::int64_t predicted = t + (next ? 1 : 0);
      rows.targets.push_back(predicted < begin + end ? batch.labels[std::size_t(predicted)] : ignore_index);
    }
    all.push_back(s);
  };
  rows.input_ids.reserve(batch.input_ids.size()), rows.targets.reserve(batch.labels.size()), all.reserve(batch.size() + 1);
  if (shared > 0) append(0, 0, shared);
  for (std::size_t i = 0; i < batch.size(); i++) append(i, shared, batch.offsets[i].length());
  rows.sequences = std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(all));
  return rows;
}

PEFT_INLINE BatchRows rows_of_pairs(const Batch& batch, std::int32_t decoder_start_token_id) {
  const auto packed = [&](const std::vector<Batch::Range>& ranges) {
    std::vector<Sequence, PoolAllocator<Sequence>> all(ranges.size());
    for (std::size_t i = 0; i < all.size(); i++) {
      all[i].begin = ranges[i].begin, all[i].end = ranges[i].end;
      all[i].id = i < batch.example.size() ? batch.example[i] : i;
    }
    return std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(all));
  };
  BatchRows rows;
  rows.sources = packed(batch.source_offsets), rows.source_ids = batch.source_ids;
  rows.sequences = packed(batch.offsets), rows.targets.assign(batch.labels.begin(), batch.labels.end());
  rows.input_ids.resize(batch.input_ids.size());
  for (const Batch::Range& range : batch.offsets) {
    const auto begin = batch.input_ids.begin() + range.begin, end = batch.input_ids.begin() + range.end;
    const auto shifted = rows.input_ids.begin() + range.begin;
    if (begin == end) continue;
    *shifted = decoder_start_token_id;
    std::copy(begin, end - 1, shifted + 1);
  }
  return rows;
}

}  // namespace peft
