// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/core/error.hpp"
#include "peft/train/classification.hpp"

namespace peft {
namespace detail {

inline void check_class(const HeadConfig& head, double target, const char* of) {
  if (!(target >= 0 && target < double(head.num_labels) && target == std::floor(target)))
    throw ConfigError("train",
                      std::string(of) + " has the class " + std::to_string(target) + "; this head has classes 0 to " + std::to_string(head.num_labels - 1));
}

PEFT_INLINE Ids class_targets(const HeadConfig& head, const Batch& batch) {
  if (batch.targets.size() != batch.size())
    throw ConfigError("train", std::to_string(batch.targets.size()) + " targets for " + std::to_string(batch.size()) +
                                   " sequences; a head that classifies sequences wants a class for each (load_classification)");
  Ids targets;
  for (const float target : batch.targets) check_class(head, double(target), "a sequence"), targets.push_back(std::int32_t(target));
  return targets;
}

PEFT_INLINE Ids token_targets(const HeadConfig& head, const Batch& batch, std::span<const std::int64_t> place, std::int64_t rows) {
  Ids targets(std::size_t(rows), ignore_index);
  for (std::size_t i = 0; i < batch.labels.size(); i++) {
    if (batch.labels[i] == ignore_index) continue;
    check_class(head, batch.labels[i], "a token");
    targets[std::size_t(place[i])] = batch.labels[i];
  }
  return targets;
}

}  // namespace detail

PEFT_INLINE std::vector<double> probabilities(const HeadConfig& head, std::span<const float> logits) {
  std::vector<double> all(logits.begin(), logits.end());
  if (head.task == TaskType::seq_cls && head.problem == ProblemType::regression) return all;
  if (head.task == TaskType::seq_cls && head.problem == ProblemType::multi_label_classification) {
    for (double& p : all) p = 1 / (1 + std::exp(-p));
    return all;
  }
  const double largest = *std::ranges::max_element(all);
  double sum = 0;
  for (double& p : all) sum += p = std::exp(p - largest);
  for (double& p : all) p /= sum;
  return all;
}

}  // namespace peft
