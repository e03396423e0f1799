// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "peft/core/dtype.hpp"

namespace peft {

/// The largest logit's token, the first of equals. Throws Error if no logit is finite: the model (or an adapter) is broken, or every token
/// was taken out.
template <Scalar T>
std::int32_t argmax(std::span<const T> row);

/// The token of which the cumulative softmax, in the order of the vocabulary, first exceeds u in [0, 1). −∞ is never drawn. Throws as argmax.
template <Scalar T>
std::int32_t sample(std::span<const T> row, double u);

/// log softmax(row)[token]
template <Scalar T>
double log_probability(std::span<const T> row, std::int32_t token);

/// The k tokens with the largest logits and their log softmax, the likeliest first; of equals the first token.
template <Scalar T>
std::vector<std::pair<std::int32_t, double>> top_log_probabilities(std::span<const T> row, std::int64_t k);

/// The random numbers of one sequence: a function of the seed, the prompt, which of several answers to it this is, and the step. So a seed
/// gives the same text whatever else is in the batch and however many threads compute it, and different prompts draw independently.
class SequenceRandom {
 public:
  SequenceRandom(std::uint64_t seed, std::span<const std::int32_t> prompt, std::int64_t answer);
  /// In [0, 1).
  double uniform(std::int64_t step) const;

 private:
  std::uint64_t key_, answer_;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/sampler.inl"
#endif
