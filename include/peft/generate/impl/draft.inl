// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include "peft/generate/draft.hpp"
#include "peft/generate/impl/logits_chain.inl"
#include "peft/generate/impl/sampler.inl"

namespace peft::detail {

PEFT_INLINE std::vector<std::int32_t> look_up(std::span<const std::int32_t> ids, std::size_t n, std::int64_t max_ngram) {
  if (n == 0 || ids.size() < 2) return {};
  for (std::size_t size = std::min(std::size_t(max_ngram), ids.size() - 1); size > 0; size--) {
    const auto last = ids.last(size);
    const auto found = std::search(ids.begin(), ids.end() - 1, last.begin(), last.end());
    if (found == ids.end() - 1) continue;
    const auto from = found + std::ptrdiff_t(size);
    return {from, from + std::min(std::ptrdiff_t(n), ids.end() - from)};
  }
  return {};
}

template <Scalar T>
void DraftModel<T>::propose(std::span<const DraftRequest<T>> requests) {
  struct Guess {
    const DraftRequest<T>* request;
    PromptCache<T>* read;
    std::vector<std::int32_t> ids;  // with the proposal so far
    std::vector<std::int32_t> input;
    TokenConstraint::State state;
  };
  std::vector<Guess> guesses;
  for (const DraftRequest<T>& r : requests) {
    const std::vector<std::int32_t>& ids = *r.ids;
    if (r.most == 0 || std::int64_t(ids.size()) >= model_.context_length()) continue;
    PromptCache<T>& past = r.past ? *r.past : pasts_[r.key];
    if (past.cache.layers() == 0) {
      past.cache = model_.make_cache(std::int64_t(ids.size()) + 256), past.ids.clear();
      const typename LanguageModel<T>::Source source{r.source};
      if (model_.has_encoder()) past.cache.source = model_.read_sources(std::span(&source, 1))[0];
    }
    past.cache.truncate(std::min(common_prefix(past.ids, ids), std::int64_t(ids.size()) - 1));
    const std::int64_t kept = past.cache.length();
    past.ids.resize(std::size_t(kept));
    guesses.push_back({&r, &past, ids, {ids.begin() + kept, ids.end()}, r.state});
  }
  std::vector<typename LanguageModel<T>::Continuation> steps;
  for (std::int64_t n = 0; n < config_.num_assistant_tokens && !guesses.empty(); n++) {
    steps.clear();
    for (Guess& g : guesses) steps.push_back({&g.read->cache, g.input, 0});
    const Tensor<T> rows = n == 0 ? model_.prefill(steps) : model_.last_logits(steps, ops::Kernel::dot);
    std::vector<Guess> going_on;
    for (std::size_t i = 0; i < guesses.size(); i++) {
      Guess& g = guesses[i];
      g.read->ids.insert(g.read->ids.end(), g.input.begin(), g.input.end());
      const std::span<T> row(rows.view().row(std::int64_t(i)), std::size_t(rows.cols()));
      const DraftRequest<T>& r = *g.request;
      if (!processors_.empty()) processors_.template operator()<T>(row, {g.ids, r.prompt_length, r.limit, g.state, nullptr, r.source});
      if (largest<T>(row) == removed<T>) continue;
      const auto step = std::int64_t(g.ids.size()) - r.prompt_length;
      const std::int32_t token = samples(config_) ? sample<T>(row, r.random->uniform(step)) : argmax<T>(row);
      r.proposal->push_back(token), g.ids.push_back(token);
      const bool sure = std::exp(log_probability<T>(row, token)) >= config_.assistant_confidence_threshold;
      if (!sure || r.proposal->size() >= r.most || std::int64_t(g.ids.size()) >= model_.context_length()) continue;
      if (std::find(eos_.begin(), eos_.end(), token) != eos_.end()) continue;
      if (config_.constraint) {
        g.state = config_.constraint->next(g.state, token);
        if (config_.constraint->finished(g.state)) continue;
      }
      g.input.assign(1, token);
      going_on.push_back(std::move(g));
    }
    guesses = std::move(going_on);
  }
}

}  // namespace peft::detail
