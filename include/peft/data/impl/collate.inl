// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/core/error.hpp"
#include "peft/data/collate.hpp"

namespace peft {

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
    const std::int64_t begin = batch.tokens();
    if (!example.token_types.empty()) {
      batch.token_types.resize(batch.input_ids.size(), 0);
      batch.token_types.insert(batch.token_types.end(), example.token_types.begin(), example.token_types.end());
    }
    batch.targets.insert(batch.targets.end(), example.targets.begin(), example.targets.end());
    batch.input_ids.insert(batch.input_ids.end(), example.input_ids.begin(), example.input_ids.end());
    batch.labels.insert(batch.labels.end(), example.labels.begin(), example.labels.end());
    batch.offsets.push_back({begin, batch.tokens()});
    batch.example.push_back(i);
    const auto labels = static_cast<std::int64_t>(example.labels.size()) - std::count(example.labels.begin(), example.labels.end(), ignore_index);
    batch.num_labels += labels;
    batch.num_shifted_labels += labels - (example.labels[0] != ignore_index ? 1 : 0);
  }
  if (!batch.token_types.empty()) batch.token_types.resize(batch.input_ids.size(), 0);
  return batch;
}

PEFT_INLINE std::vector<Batch> split(const Batch& batch, std::int64_t tokens) {
  const std::int64_t all = batch.tokens(), parts = tokens > 0 ? std::max<std::int64_t>(1, (all + tokens - 1) / tokens) : 1;
  if (parts == 1) return {batch};
  std::vector<Batch> made;
  for (std::size_t i = 0; i < batch.size(); i++) {
    const auto [begin, end] = batch.offsets[i];
    // A part ends where the sequence's middle lies behind its share of the tokens.
    if (made.empty() || (begin + end) * parts > 2 * all * std::int64_t(made.size())) made.emplace_back();
    Batch& part = made.back();
    const std::int64_t first = part.tokens();
    part.input_ids.insert(part.input_ids.end(), batch.input_ids.begin() + begin, batch.input_ids.begin() + end);
    part.labels.insert(part.labels.end(), batch.labels.begin() + begin, batch.labels.begin() + end);
    if (!batch.token_types.empty()) part.token_types.insert(part.token_types.end(), batch.token_types.begin() + begin, batch.token_types.begin() + end);
    const auto targets = static_cast<std::ptrdiff_t>(batch.targets.size() / batch.size()), target = static_cast<std::ptrdiff_t>(i) * targets;
    part.targets.insert(part.targets.end(), batch.targets.begin() + target, batch.targets.begin() + target + targets);
    part.offsets.push_back({first, part.tokens()});
    if (i < batch.example.size()) part.example.push_back(batch.example[i]);
    const auto labels = std::count_if(part.labels.begin() + first, part.labels.end(), [](std::int32_t label) { return label != ignore_index; });
    part.num_labels += labels;
    part.num_shifted_labels += labels - (end > begin && part.labels[std::size_t(first)] != ignore_index ? 1 : 0);
  }
  return made;
}

}  // namespace peft
