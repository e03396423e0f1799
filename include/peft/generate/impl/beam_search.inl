// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include "peft/generate/beam_search.hpp"

namespace peft {

PEFT_INLINE BeamSearch::BeamSearch(std::int64_t num_beams, std::int64_t max_new_tokens, double length_penalty, EarlyStopping early_stopping,
                                   std::vector<std::int32_t> eos_token_ids)
    : num_beams_(num_beams),
      max_new_tokens_(max_new_tokens),
      length_penalty_(length_penalty),
      early_stopping_(early_stopping),
      eos_(std::move(eos_token_ids)),
      running_(1) {}

PEFT_INLINE bool BeamSearch::is_eos(std::int32_t token) const { return std::find(eos_.begin(), eos_.end(), token) != eos_.end(); }

template <Scalar T>
bool BeamSearch::advance(View<const T> log_probs) {
  const std::size_t wanted = std::max<std::size_t>(2, 1 + eos_.size()) * std::size_t(num_beams_);
  std::vector<Candidate> best;  // a heap whose front is the worst of the best
  best.reserve(wanted + 1);
  for (std::size_t b = 0; b < running_.size(); b++) {
    const T* row = log_probs.row(std::int64_t(b));
    for (std::int64_t v = 0; v < log_probs.cols; v++) {
      const double score = running_[b].log_probability + double(row[v]);
      if (!(score > -INFINITY) || (best.size() == wanted && score <= best.front().score)) continue;
      best.push_back({score, int(b), std::int32_t(v)});
      std::push_heap(best.begin(), best.end());
      if (best.size() > wanted) std::pop_heap(best.begin(), best.end()), best.pop_back();
    }
  }
  std::sort_heap(best.begin(), best.end());
  return take(std::move(best));
}

PEFT_INLINE bool BeamSearch::take(std::vector<Candidate> candidates) {
  made_++;
  const auto ends = [&](const Candidate& c) { return made_ >= max_new_tokens_ || is_eos(c.token); };
  const auto extended = [&](const Candidate& c) {
    std::vector<std::int32_t> ids = running_[std::size_t(c.beam)].ids;
    ids.push_back(c.token);
    return ids;
  };
  if (improvable_ && !(full() && early_stopping_ == EarlyStopping::yes)) {
    const double divisor = std::pow(double(made_), length_penalty_);
    for (std::size_t i = 0; i < candidates.size() && i < std::size_t(num_beams_); i++)
      if (ends(candidates[i])) finished_.push_back({extended(candidates[i]), candidates[i].score / divisor, is_eos(candidates[i].token)});
    std::stable_sort(finished_.begin(), finished_.end(), [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
    if (finished_.size() > std::size_t(num_beams_)) finished_.resize(std::size_t(num_beams_));
  }
  std::vector<Beam> next;
  for (const Candidate& c : candidates)
    if (!ends(c) && std::int64_t(next.size()) < num_beams_) next.push_back({extended(c), c.score, c.beam});
  running_ = std::move(next);
  if (running_.empty()) return false;

  if (full()) {
    const double length = double(early_stopping_ == EarlyStopping::never && length_penalty_ > 0 ? max_new_tokens_ : made_);
    improvable_ = improvable_ && running_[0].log_probability / std::pow(length, length_penalty_) > finished_.back().score;
    if (early_stopping_ == EarlyStopping::yes) return false;
  }
  return improvable_;
}

}  // namespace peft
