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
    batch.input_ids.insert(batch.input_ids.end(), example.input_ids.begin(), example.input_ids.end());
    batch.labels.insert(batch.labels.end(), example.labels.begin(), example.labels.end());
    batch.offsets.push_back({begin, batch.tokens()});
    batch.example.push_back(i);
    const auto labels = static_cast<std::int64_t>(example.labels.size()) - std::count(example.labels.begin(), example.labels.end(), ignore_index);
    batch.num_labels += labels;
    batch.num_shifted_labels += labels - (example.labels[0] != ignore_index ? 1 : 0);
  }
  return batch;
}

}  // namespace peft
