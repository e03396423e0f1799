// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/generate/beam_search.hpp"
#include "peft/generate/impl/text_generation.inl"

namespace peft::detail {

// One prompt at a time; its beams are decoded together. A beam's cache goes on to the first beam that continues it; others copy the rows
// that they do not have in common.
template <Scalar T>
void GenerationRun<T>::search_beams(std::size_t r) {
  const Request& request = requests_[r];
  const Clock::time_point start = Clock::now();
  const std::int64_t prompt_length = std::int64_t(request.ids.size());
  BeamSearch search(config_.num_beams, limit(request), config_.length_penalty, config_.early_stopping, eos_);
  struct Slot {
    KvCache<T> cache;
    std::vector<std::int32_t> ids;  // prompt and answer, as far as the cache holds them
  };
  std::vector<Slot> slots;
  for (std::int64_t b = 0; b < config_.num_beams; b++)
    slots.push_back({model_.make_cache(prompt_length + std::min<std::int64_t>(limit(request), 256), request.active), {}});
  slots[0].ids.assign(request.ids.begin(), request.ids.end());
  const typename LanguageModel<T>::Continuation prompt{&slots[0].cache, request.ids, request.active};
  Tensor<T> rows = model_.prefill(std::span(&prompt, 1));
  const double prefill_seconds = seconds_since(start);
  const Clock::time_point decode = Clock::now();
  std::vector<std::size_t> slot_of = {0};  // of each running beam
  for (;;) {
    parallel_for(rows.rows(), [&](std::int64_t i) {
      const std::span<T> row(rows.view().row(i), std::size_t(rows.cols()));
      logits::log_softmax<T>(row);
      if (!processors_.empty()) processors_.template operator()<T>(row, slots[slot_of[std::size_t(i)]].ids, prompt_length);
    });
    if (!search.template advance<T>(rows.view())) break;

    const auto& beams = search.running();
    std::vector<std::size_t> next(beams.size());
    std::vector<bool> taken(slots.size());
    std::vector<bool> copies(beams.size());
    for (std::size_t b = 0; b < beams.size(); b++) {
      const std::size_t parent = slot_of[std::size_t(beams[b].parent)];
      copies[b] = taken[parent];
      if (!copies[b]) taken[parent] = true, next[b] = parent;
    }
    for (std::size_t b = 0; b < beams.size(); b++) {
      if (!copies[b]) continue;
      const Slot& parent = slots[slot_of[std::size_t(beams[b].parent)]];
      const std::size_t free = std::size_t(std::find(taken.begin(), taken.end(), false) - taken.begin());
      slots[free].cache.copy_from(parent.cache, common_prefix(parent.ids, slots[free].ids));
      slots[free].ids = parent.ids;
      taken[free] = true, next[b] = free;
    }
    slot_of = std::move(next);
    steps_.clear();
    for (std::size_t b = 0; b < beams.size(); b++) {
      Slot& slot = slots[slot_of[b]];
      slot.ids.push_back(beams[b].ids.back());
      steps_.push_back({&slot.cache, std::span<const std::int32_t>(slot.ids).last(1), request.active});
    }
    rows = model_.last_logits(steps_, ops::Kernel::dot);
  }
  for (std::size_t a = 0; a < answers_ && a < search.finished().size(); a++) {
    const BeamSearch::Hypothesis& best = search.finished()[a];
    Generation& g = results_[r * answers_ + a];
    describe_prompt(g, request);
    g.ids = best.ids, g.score = best.score;
    g.finish_reason = best.ended ? FinishReason::stop : FinishReason::length;
    g.prefill_seconds = prefill_seconds, g.decode_seconds = seconds_since(decode);
    if (!tokenizer_) continue;
    TextStream stream(*tokenizer_, {}, request.ids);
    std::string text;
    for (std::size_t i = 0; i < best.ids.size() - (best.ended ? 1 : 0); i++) text += stream.push(best.ids[i]);
    text += stream.finish();
    g.text += text;
    if (a == 0 && !text.empty()) request.on_text(text);
  }
}

}  // namespace peft::detail
