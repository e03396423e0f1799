// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "peft/core/tensor.hpp"
#include "peft/generate/config.hpp"
#include "peft/generate/sampler.hpp"

namespace peft {

/// The bookkeeping of a beam search over one prompt, without the model: rows of log-probabilities in, which token continues which beam out.
///
/// Of all continuations of the running beams the best (1 + number of eos tokens) · num_beams are candidates. Those among the first num_beams
/// that end are finished, with the score Σ log p / length^length_penalty (length: generated tokens); the best num_beams that do not end run on.
/// With random numbers, the candidates are drawn without replacement in proportion to e^score: they are the largest of score + Gumbel noise (Kool et
/// al. 2019, arXiv:1903.06059), in that order.
class BeamSearch {
 public:
  /// True if running beam number `beam` would end with this token, eos and length apart.
  using Ends = std::function<bool(int beam, std::int32_t token)>;
  /// A running beam.
  struct Beam {
    std::vector<std::int32_t> ids;  // generated so far
    double log_probability = 0;     // of all of them, behind the processors
    int parent = 0;                 // which of the beams before the last advance() it continues
  };
  struct Hypothesis {
    std::vector<std::int32_t> ids;
    double score = 0;
    bool ended = false;  // by eos, or because Ends said so; else by length
  };

  BeamSearch(std::int64_t num_beams, std::int64_t max_new_tokens, double length_penalty, EarlyStopping early_stopping, std::vector<std::int32_t> eos_token_ids);

  /// One at first, then num_beams (fewer only where the vocabulary has no more continuations).
  const std::vector<Beam>& running() const { return running_; }
  /// log_probs (running beams, vocab), processed. Returns false when the search is over.
  template <Scalar T>
  bool advance(View<const T> log_probs, const SequenceRandom* random = nullptr, const Ends& ends = {});
  /// At most num_beams, the best first.
  const std::vector<Hypothesis>& finished() const { return finished_; }

 private:
  struct Candidate {
    double key, score;  // key: with noise, where there is some
    int beam;
    std::int32_t token;
    bool operator<(const Candidate& other) const {  // better first; of equals the one that comes first in (beam, token)
      if (key != other.key) return key > other.key;
      return beam != other.beam ? beam < other.beam : token < other.token;
    }
  };
  bool is_eos(std::int32_t token) const;
  bool full() const { return std::int64_t(finished_.size()) == num_beams_; }
  bool take(std::vector<Candidate> candidates, const Ends& ends);

  std::int64_t num_beams_, max_new_tokens_;
  double length_penalty_;
  EarlyStopping early_stopping_;
  std::vector<std::int32_t> eos_;
  std::int64_t made_ = 0;
  bool improvable_ = true;
  std::vector<Beam> running_;
  std::vector<Hypothesis> finished_;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/beam_search.inl"
#endif
