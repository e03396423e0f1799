// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/core/error.hpp"
#include "peft/data/collate.hpp"

namespace peft {

namespace data::detail {

/// One sequence more. source: empty, or of a pair.
inline void append(Batch& batch, std::span<const std::int32_t> ids, std::span<const std::int32_t> labels, std::span<const std::int32_t> source) {
  const auto put = [](std::vector<std::int32_t>& to, std::span<const std::int32_t> what) {
    const auto begin = static_cast<std::int64_t>(to.size());
    to.insert(to.end(), what.begin(), what.end());
    return Batch::Range{begin, static_cast<std::int64_t>(to.size())};
  };
  batch.offsets.push_back(put(batch.input_ids, ids));
  put(batch.labels, labels);
  if (!source.empty()) batch.source_offsets.push_back(put(batch.source_ids, source));
  const auto counted = std::count_if(labels.begin(), labels.end(), [](std::int32_t label) { return label != ignore_index; });
  batch.num_labels += counted;
  // A decoder with a source predicts its first token too.
  batch.num_shifted_labels += counted - (source.empty() && !labels.empty() && labels[0] != ignore_index ? 1 : 0);
}

}  // namespace data::detail

PEFT_INLINE Batch collate(const Dataset& dataset, std::span<const std::size_t> indices) {
  Batch batch;
  std::size_t tokens = 0;
  for (std::size_t i : indices) {
    if (i >= dataset.size()) throw Error("collate", "index " + std::to_string(i) + " of a dataset of " + std::to_string(dataset.size()) + " examples");
    tokens += dataset[i].input_ids.size();
  }
  batch.input_ids.reserve(tokens), batch.labels.reserve(tokens);
  for (std::size_t i : indices) {
    const Example& example = dataset[i];
    data::detail::append(batch, example.input_ids, example.labels, example.source_ids);
    if (!example.token_types.empty()) {
      batch.token_types.resize(batch.input_ids.size() - example.input_ids.size(), 0);
      batch.token_types.insert(batch.token_types.end(), example.token_types.begin(), example.token_types.end());
    }
    batch.targets.insert(batch.targets.end(), example.targets.begin(), example.targets.end());
    batch.example.push_back(i);
  }
  if (!batch.token_types.empty()) batch.token_types.resize(batch.input_ids.size(), 0);
  return batch;
}

PEFT_INLINE std::vector<Batch> split(const Batch& batch, std::int64_t tokens) {
  const std::int64_t all = batch.tokens(), parts = tokens > 0 ? std::max<std::int64_t>(1, (all + tokens - 1) / tokens) : 1;
  if (parts == 1) return {batch};
  std::vector<Batch> made;
  const auto of = [](const std::vector<std::int32_t>& all_ids, Batch::Range range) {
    return std::span(all_ids).subspan(std::size_t(range.begin), std::size_t(range.length()));
  };
  for (std::size_t i = 0; i < batch.size(); i++) {
    const Batch::Range own = batch.offsets[i], source = batch.has_sources() ? batch.source_offsets[i] : Batch::Range{0, 0};
    // A part ends where the sequence's middle lies behind its share of the tokens.
    const std::int64_t begin = own.begin + source.begin, end = own.end + source.end;
    if (made.empty() || (begin + end) * parts > 2 * all * std::int64_t(made.size())) made.emplace_back();
    Batch& part = made.back();
    data::detail::append(part, of(batch.input_ids, own), of(batch.labels, own), of(batch.source_ids, source));
    if (!batch.token_types.empty()) part.token_types.insert(part.token_types.end(), batch.token_types.begin() + own.begin, batch.token_types.begin() + own.end);
    const auto targets = static_cast<std::ptrdiff_t>(batch.targets.size() / batch.size()), target = static_cast<std::ptrdiff_t>(i) * targets;
    part.targets.insert(part.targets.end(), batch.targets.begin() + target, batch.targets.begin() + target + targets);
    if (i < batch.example.size()) part.example.push_back(batch.example[i]);
  }
  return made;
}

}  // namespace peft
