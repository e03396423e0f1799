// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/generate/impl/generation_run.inl"

namespace peft::detail {

// One prompt at a time; its candidates are run together. Each has a cache that continues the prompt's; the chosen one's last row is copied each step.
template <Scalar T>
class ContrastiveRun {
 public:
  ContrastiveRun(GenerationRun<T>& run, std::size_t request)
      : run_(run),
        config_(run.config_),
        request_(run.requests_[request]),
        number_(request),
        limit_(run.limit(request_)),
        state_(config_.constraint ? config_.constraint->start() : 0),
        prompt_(run.beginning(request_)),
        ids_(prompt_.begin(), prompt_.end()) {
    if (run.tokenizer_) stream_.emplace(*run.tokenizer_, config_.stop, prompt_);
  }

  FinishReason search(double& prefill_seconds) {
    const auto start = std::chrono::steady_clock::now();
    const auto prompt_length = std::int64_t(ids_.size());
    KvCache<T> cache = run_.model_.make_cache(prompt_length, request_.active);
    Tensor<T> hidden;  // of the whole prompt: it cannot come from a cache
    run_.read_source(request_, cache);
    const typename LanguageModel<T>::Continuation prompt{&cache, prompt_, request_.active};
    Tensor<T> row = run_.model_.prefill(std::span(&prompt, 1), &hidden);
    for (std::int64_t i = 0; i < hidden.rows(); i++) remember(hidden.view().row(i), hidden.cols());
    read_ = std::make_shared<const KvCache<T>>(std::move(cache));
    caches_.push_back(continue_prompt());
    prefill_seconds = seconds_since(start);
    for (;;) {
      const std::span<T> logits(row.data(), std::size_t(row.cols()));
      if (!run_.processors_.empty()) {
        std::vector<std::int32_t> allowed;
        if (run_.processors_.asks_for_allowed()) allowed = run_.processors_.allowed(number_, ids_);
        run_.processors_.template operator()<T>(logits,
                                                {ids_, prompt_length, limit_, state_, run_.processors_.asks_for_allowed() ? &allowed : nullptr, request_.ids});
      }
      (void)argmax<T>(logits);  // throws where nothing is left
      auto candidates = top_log_probabilities<T>(logits, config_.top_k);
      std::erase_if(candidates, [](const auto& c) { return !(c.second > -INFINITY); });
      const std::size_t best = run_candidates(candidates, row);
      const std::int32_t token = candidates[best].first;
      ids_.push_back(token);
      if (run_.is_eos(token)) return FinishReason::stop;
      if (config_.constraint) state_ = config_.constraint->next(state_, token);
      if (stream_) stream_->push(token);
      if ((stream_ && stream_->stopped()) || (config_.constraint && config_.constraint->finished(state_))) return FinishReason::stop;
      if (std::int64_t(ids_.size()) - prompt_length >= limit_) return FinishReason::length;
      if (run_.late()) return FinishReason::timeout;
    }
  }
  std::vector<std::int32_t> answer() const { return {ids_.begin() + std::ptrdiff_t(prompt_.size()), ids_.end()}; }

 private:
  // Keeps a hidden state with the length 1.
  void remember(const T* hidden, std::int64_t n) {
    double norm = 0;
    for (std::int64_t c = 0; c < n; c++) norm += double(hidden[c]) * double(hidden[c]);
    const double scale = norm > 0 ? 1 / std::sqrt(norm) : 0;
    for (std::int64_t c = 0; c < n; c++) past_.push_back(T(double(hidden[c]) * scale));
  }

  KvCache<T> continue_prompt() const { return run_.model_.continue_cache(read_, std::min<std::int64_t>(limit_, 256), request_.active); }

  // Runs all candidates behind the text so far. Returns the number of the one that is chosen; `row` becomes the logits behind it.
  std::size_t run_candidates(const std::vector<std::pair<std::int32_t, double>>& candidates, Tensor<T>& row) {
    using Continuation = typename LanguageModel<T>::Continuation;
    const std::int64_t length = caches_[0].length();
    std::vector<std::vector<std::int32_t>> inputs;
    std::vector<Continuation> steps;
    while (caches_.size() < candidates.size()) {
      caches_.push_back(continue_prompt());
      caches_.back().copy_from(caches_[0]);
    }
    for (const auto& candidate : candidates) inputs.push_back({candidate.first});
    for (std::size_t i = 0; i < candidates.size(); i++) steps.push_back({&caches_[i], inputs[i], request_.active});
    const Tensor<T> hidden = run_.model_.hidden_states(steps, ops::Kernel::dot);

    const std::int64_t n = hidden.cols(), rows = std::int64_t(past_.size()) / n;
    std::vector<double> scores(candidates.size());
    parallel_for(hidden.rows(), [&](std::int64_t i) {
      const T* h = hidden.view().row(i);
      double norm = 0, largest = -1;
      for (std::int64_t c = 0; c < n; c++) norm += double(h[c]) * double(h[c]);
      for (std::int64_t r = 0; r < rows; r++) {
        double dot = 0;
        for (std::int64_t c = 0; c < n; c++) dot += double(h[c]) * double(past_[std::size_t(r * n + c)]);
        largest = std::max(largest, norm > 0 ? dot / std::sqrt(norm) : 0);
      }
      scores[std::size_t(i)] = (1 - config_.penalty_alpha) * std::exp(candidates[std::size_t(i)].second) - config_.penalty_alpha * largest;
    });
    const auto best = std::size_t(std::max_element(scores.begin(), scores.end()) - scores.begin());
    remember(hidden.view().row(std::int64_t(best)), n);
    for (std::size_t i = 0; i < caches_.size(); i++)
      if (i != best) caches_[i].copy_from(caches_[best], length);
    const int list = request_.active;
    row = run_.model_.logits(hidden.row_range(std::int64_t(best), std::int64_t(best) + 1), std::span(&list, 1), ops::Kernel::dot);
    return best;
  }

  GenerationRun<T>& run_;
  const GenerationConfig& config_;
  const GenerationRequest<T>& request_;
  std::size_t number_;
  std::int64_t limit_;
  TokenConstraint::State state_;
  std::span<const std::int32_t> prompt_;
  std::vector<std::int32_t> ids_;
  std::optional<TextStream> stream_;
  std::shared_ptr<const KvCache<T>> read_;  // the prompt
  std::vector<KvCache<T>> caches_;
  std::vector<T, PoolAllocator<T>> past_;  // hidden states of the text so far
};

template <Scalar T>
void GenerationRun<T>::search_contrastively(std::size_t r) {
  const Clock::time_point start = Clock::now();
  double prefill_seconds = 0;
  ContrastiveRun<T> search(*this, r);
  const FinishReason reason = search.search(prefill_seconds);
  report(r, 0, search.answer(), reason, prefill_seconds, start);
}

}  // namespace peft::detail
