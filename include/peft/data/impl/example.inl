// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include "peft/core/error.hpp"
#include "peft/core/random.hpp"
#include "peft/data/example.hpp"

namespace peft {
namespace data::detail {

/// 22538 as 22,538.
inline std::string grouped(std::int64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

}  // namespace data::detail

PEFT_INLINE Example pair_example(std::vector<std::int32_t> source_ids, std::vector<std::int32_t> labels, std::int32_t pad_token_id) {
  while (!labels.empty() && labels.back() == ignore_index) labels.pop_back();
  if (source_ids.empty() || labels.empty())
    throw Error("pair_example", "a pair of " + std::to_string(source_ids.size()) + " tokens and " + std::to_string(labels.size()) +
                                    " labels that count; both sides need at least one");
  Example pair{labels, std::move(labels), std::move(source_ids)};
  std::replace(pair.input_ids.begin(), pair.input_ids.end(), ignore_index, pad_token_id);
  return pair;
}

PEFT_INLINE Dataset::Dataset(std::vector<Example> examples, DatasetReport report) {
  auto data = std::make_shared<Data>();
  for (std::size_t i = 0; i < examples.size(); i++) {
    const Example& example = examples[i];
    if (example.input_ids.empty() || example.input_ids.size() != example.labels.size())
      throw Error("dataset", "example " + std::to_string(i) + " has " + std::to_string(example.input_ids.size()) + " tokens and " +
                                 std::to_string(example.labels.size()) + " labels; there must be as many of both, at least one");
    if (!example.token_types.empty() && example.token_types.size() != example.input_ids.size())
      throw Error("dataset", "example " + std::to_string(i) + " has " + std::to_string(example.token_types.size()) + " token types for " +
                                 std::to_string(example.input_ids.size()) + " tokens");
    if (example.targets.size() != examples[0].targets.size())
      throw Error("dataset", "example " + std::to_string(i) + " has " + std::to_string(example.targets.size()) + " targets and example 0 " +
                                 std::to_string(examples[0].targets.size()) + "; all must have as many");
    if (example.source_ids.empty() != examples[0].source_ids.empty())
      throw Error("dataset", "example " + std::to_string(i) + " has " + (example.source_ids.empty() ? "no source" : "a source") +
                                 ", unlike the first; pairs for an encoder-decoder are apart from sequences");
    const std::int64_t length = example.tokens(), labels = static_cast<std::int64_t>(example.labels.size());
    data->tokens += length;
    data->trained_tokens += labels - std::count(example.labels.begin(), example.labels.end(), ignore_index);
    data->longest = std::max(data->longest, length);
  }
  data->examples = std::move(examples);
  data->report = std::move(report);
  data_ = std::move(data);
}

PEFT_INLINE std::string Dataset::summary() const {
  using data::detail::grouped;
  std::string text = grouped(static_cast<std::int64_t>(size())) + " examples";
  if (!report().label_names.empty()) text += " of " + grouped(static_cast<std::int64_t>(report().label_names.size())) + " classes";
  text += ", " + grouped(tokens()) + " tokens";
  if (trained_tokens() > 0) text += " (" + grouped(trained_tokens()) + " trained on)";
  text += ", longest " + grouped(longest());
  if (report().truncated > 0) text += ", " + grouped(report().truncated) + " truncated";
  if (report().dropped > 0) text += ", " + grouped(report().dropped) + " rows dropped (nothing to train on within max_length)";
  return text;
}

PEFT_INLINE Dataset Dataset::subset(const std::vector<std::size_t>& indices) const {
  std::vector<Example> examples;
  examples.reserve(indices.size());
  for (std::size_t i : indices) {
    if (i >= size()) throw Error("dataset.subset", "index " + std::to_string(i) + " of a dataset of " + std::to_string(size()) + " examples");
    examples.push_back((*this)[i]);
  }
  DatasetReport report;
  report.format = data_->report.format, report.label_names = data_->report.label_names, report.rows = static_cast<std::int64_t>(indices.size());
  return Dataset(std::move(examples), std::move(report));
}

PEFT_INLINE TrainTestSplit train_test_split(const Dataset& dataset, double fraction, std::uint64_t seed) {
  const std::size_t size = dataset.size();
  const std::size_t test = fraction > 0 && fraction < 1 ? static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(size))) : 0;
  if (test == 0 || test >= size)
    throw ConfigError("train_test_split", "a fraction of " + std::to_string(fraction) + " of " + std::to_string(size) +
                                              " examples leaves an empty part; it must lie between 0 and 1");
  std::vector<std::size_t> order(size);
  std::iota(order.begin(), order.end(), std::size_t{0});
  Random(seed).shuffle(order);
  const auto middle = order.begin() + static_cast<std::ptrdiff_t>(test);
  std::sort(order.begin(), middle), std::sort(middle, order.end());
  return {dataset.subset({middle, order.end()}), dataset.subset({order.begin(), middle})};
}

}  // namespace peft
