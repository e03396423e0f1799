// SPDX-License-Identifier: Apache-2.0
// Prompts for a tiny model, and what is often asked of the answers.
#pragma once

#include <vector>

#include "generate/tiny.hpp"
#include "peft/generate/generate.hpp"

namespace tiny {

using Prompts = std::vector<std::vector<std::int32_t>>;

inline const Prompts& prompts() {
  static const Prompts all = {{5, 9, 13}, {4}, {20, 21, 22, 23, 24, 25, 20, 21}, {30, 2, 2, 7, 11}};
  return all;
}
inline const peft::Transformer<float>& model() {
  static const peft::Transformer<float> made = tiny::random_model();
  return made;
}
inline std::vector<std::vector<std::int32_t>> ids_of(const std::vector<peft::Generation>& all) {
  std::vector<std::vector<std::int32_t>> ids;
  for (const auto& g : all) ids.push_back(g.ids);
  return ids;
}
inline peft::GenerationConfig endless(std::int64_t tokens) {
  peft::GenerationConfig c;
  c.max_new_tokens = tokens, c.eos_token_ids = std::vector<std::int32_t>{};
  return c;
}
/// Σ log p of an answer, from one forward without a cache.
inline double log_probability_of(const std::vector<std::int32_t>& prompt, const std::vector<std::int32_t>& answer) {
  std::vector<std::int32_t> ids = prompt;
  ids.insert(ids.end(), answer.begin(), answer.end());
  const auto logits = tiny::all_logits(model(), ids);
  double sum = 0;
  for (std::size_t i = 0; i < answer.size(); i++) {
    const std::span<const float> row(logits.view().row(std::int64_t(prompt.size() + i) - 1), std::size_t(logits.cols()));
    sum += peft::log_probability<float>(row, answer[i]);
  }
  return sum;
}

}  // namespace tiny
