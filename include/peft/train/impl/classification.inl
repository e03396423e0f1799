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

PEFT_INLINE SpanTargets span_targets(const Batch& batch, std::span<const std::int64_t> place, const Sequences& sequences) {
  if (batch.targets.size() != 2 * batch.size())
    throw ConfigError("train", std::to_string(batch.targets.size()) + " targets for " + std::to_string(batch.size()) +
                                   " sequences; a head that answers questions wants the first and the last token of each answer (load_questions)");
  SpanTargets targets;
  for (std::size_t i = 0; i < batch.targets.size(); i++) {
    const Batch::Range& tokens = batch.offsets[i / 2];
    const double target = double(batch.targets[i]);
    if (!(target >= 0 && target < double(tokens.length()) && target == std::floor(target)))
      throw ConfigError("train", "an answer begins or ends with token " + std::to_string(target) + " of a sequence of " + std::to_string(tokens.length()));
    const std::int64_t row = place[std::size_t(tokens.begin + std::int64_t(target))] - sequences[i / 2].begin;
    (i % 2 ? targets.ends : targets.starts).push_back(std::int32_t(row));
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
