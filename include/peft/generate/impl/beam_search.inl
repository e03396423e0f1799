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
bool BeamSearch::advance(View<const T> log_probs, const SequenceRandom* random, const Ends& ends) {
  const std::size_t wanted = std::max<std::size_t>(2, 1 + eos_.size()) * std::size_t(num_beams_);
  std::vector<Candidate> best;  // a heap whose front is the worst of the best
  best.reserve(wanted + 1);
  for (std::size_t b = 0; b < running_.size(); b++) {
    const T* row = log_probs.row(std::int64_t(b));
    for (std::int64_t v = 0; v < log_probs.cols; v++) {
      const double score = running_[b].log_probability + double(row[v]);
      if (!(score > -INFINITY)) continue;
      double key = score;
      if (random) key -= std::log(-std::log(random->uniform((made_ * num_beams_ + std::int64_t(b)) * log_probs.cols + v)));
      if (!(key > -INFINITY) || (best.size() == wanted && key <= best.front().key)) continue;
      best.push_back({key, score, int(b), std::int32_t(v)});
      std::push_heap(best.begin(), best.end());
      if (best.size() > wanted) std::pop_heap(best.begin(), best.end()), best.pop_back();
    }
  }
  std::sort_heap(best.begin(), best.end());
  return take(std::move(best), ends);
}

PEFT_INLINE bool BeamSearch::take(std::vector<Candidate> candidates, const Ends& ends) {
  made_++;
  std::vector<std::uint8_t> by_itself, over;  // ends by eos or Ends; also by length
  for (const Candidate& c : candidates) {
    by_itself.push_back(is_eos(c.token) || (ends && ends(c.beam, c.token)));
    over.push_back(by_itself.back() || made_ >= max_new_tokens_);
  }
  const auto extended = [&](const Candidate& c) {
    std::vector<std::int32_t> ids = running_[std::size_t(c.beam)].ids;
    ids.push_back(c.token);
    return ids;
  };
  if (improvable_ && !(full() && early_stopping_ == EarlyStopping::yes)) {
    const double divisor = std::pow(double(made_), length_penalty_);
    for (std::size_t i = 0; i < candidates.size() && i < std::size_t(num_beams_); i++)
      if (over[i]) finished_.push_back({extended(candidates[i]), candidates[i].score / divisor, by_itself[i] != 0});
    std::stable_sort(finished_.begin(), finished_.end(), [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
    if (finished_.size() > std::size_t(num_beams_)) finished_.resize(std::size_t(num_beams_));
  }
  std::vector<Beam> next;
  for (std::size_t i = 0; i < candidates.size(); i++)
    if (!over[i]) next.push_back({extended(candidates[i]), candidates[i].score, candidates[i].beam});
  std::stable_sort(next.begin(), next.end(), [](const Beam& a, const Beam& b) { return a.log_probability > b.log_probability; });  // drawn ones are not sorted
  if (std::int64_t(next.size()) > num_beams_) next.resize(std::size_t(num_beams_));
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
