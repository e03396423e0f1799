// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/generate/beam_search.hpp"
#include "peft/generate/impl/generation_run.inl"

namespace peft::detail {

// One prompt at a time; its beams are decoded together. The prompt's keys and values lie there once. A beam's cache goes on to the first beam that
// continues it; others copy the rows of the answer that they do not have in common. Groups of beams (one, unless diversity is asked for) choose in turn.
template <Scalar T>
class BeamRun {
 public:
  BeamRun(GenerationRun<T>& run, std::size_t request)
      : run_(run),
        config_(run.config_),
        request_(run.requests_[request]),
        number_(request),
        prompt_length_(std::int64_t(run.beginning(request_).size())),
        limit_(run.limit(request_)),
        random_(config_.seed, request_.ids, 0) {
    const std::int64_t of_a_group = config_.num_beams / config_.num_beam_groups;
    for (std::int64_t g = 0; g < config_.num_beam_groups; g++) {
      groups_.push_back({BeamSearch(of_a_group, limit_, config_.length_penalty, config_.early_stopping, run.eos_), {0}, {}, {}, false});
      Group& group = groups_.back();
      group.states.push_back(config_.constraint ? config_.constraint->start() : 0);
      if (run.tokenizer_ && !config_.stop.empty()) group.streams.push_back(TextStream(*run.tokenizer_, config_.stop, run.beginning(request_)));
    }
    slots_.resize(std::size_t(config_.num_beams));
    slots_[0].cache = run.model_.make_cache(prompt_length_, request_.active);
  }

  /// The best texts of all groups, the best first.
  std::vector<BeamSearch::Hypothesis> search(double& prefill_seconds) {
    const auto start = std::chrono::steady_clock::now();
    const std::span<const std::int32_t> beginning = run_.beginning(request_);
    slots_[0].ids.assign(beginning.begin(), beginning.end());
    const Tensor<T> row = run_.read_prompt(request_, slots_[0].cache);
    prefill_seconds = seconds_since(start);
    // All beams begin with the prompt's keys and values, which lie there once.
    const auto prompt = std::make_shared<const KvCache<T>>(std::move(slots_[0].cache));
    for (Slot& slot : slots_) {
      slot.cache = run_.model_.continue_cache(prompt, std::min<std::int64_t>(limit_, 256), request_.active);
      slot.ids = slots_[0].ids;
    }
    Tensor<T> rows({std::int64_t(groups_.size()), row.cols()});
    for (std::int64_t g = 0; g < rows.rows(); g++) std::copy_n(row.data(), row.cols(), rows.view().row(g));
    while (choose(rows)) {
      hand_over();
      rows = run_.model_.last_logits(steps_, ops::Kernel::dot);
    }
    std::vector<BeamSearch::Hypothesis> all;
    for (const Group& g : groups_) all.insert(all.end(), g.search.finished().begin(), g.search.finished().end());
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
    return all;
  }

 private:
  struct Slot {
    KvCache<T> cache;
    std::vector<std::int32_t> ids;  // prompt and answer, as far as the cache holds them
  };
  struct Group {
    BeamSearch search;
    std::vector<std::size_t> slot_of;            // of each running beam
    std::vector<TokenConstraint::State> states;  // and where it stands in the constraint,
    std::vector<TextStream> streams;             // and its text, if stop strings end it
    bool over;
  };

  // rows: of the beams of all groups that are not over, group by group. False if all are over now.
  bool choose(const Tensor<T>& rows) {
    const bool late = run_.late();
    std::vector<std::int32_t> chosen;  // in this step, by the groups before
    std::int64_t first = 0;
    bool go_on = false;
    for (Group& g : groups_) {
      if (g.over) continue;
      const auto beams = std::int64_t(g.search.running().size());
      const View<T> mine = rows.view().row_range(first, first + beams);
      first += beams;
      std::vector<std::vector<std::int32_t>> allowed(g.slot_of.size());
      if (run_.processors_.asks_for_allowed())
        for (std::size_t b = 0; b < allowed.size(); b++) allowed[b] = run_.processors_.allowed(number_, slots_[g.slot_of[b]].ids);
      parallel_for(beams, [&](std::int64_t i) {
        const auto b = std::size_t(i);
        const std::span<T> row(mine.row(i), std::size_t(mine.cols));
        logits::log_softmax<T>(row);
        for (std::int32_t token : chosen) row[std::size_t(token)] -= T(config_.diversity_penalty);
        if (!run_.processors_.empty())
          run_.processors_.template operator()<T>(
              row, {slots_[g.slot_of[b]].ids, prompt_length_, limit_, g.states[b], run_.processors_.asks_for_allowed() ? &allowed[b] : nullptr, request_.ids});
      });
      const auto ends = [&](int beam, std::int32_t token) { return late || ends_text(g, std::size_t(beam), token); };
      g.over = !g.search.template advance<T>(mine, samples(config_) ? &random_ : nullptr, ends);
      if (g.over) continue;
      go_on = true;
      for (const auto& beam : g.search.running()) chosen.push_back(beam.ids.back());
      follow(g);
    }
    return go_on;
  }

  bool ends_text(const Group& g, std::size_t beam, std::int32_t token) const {
    if (run_.is_eos(token)) return true;
    if (config_.constraint && config_.constraint->finished(config_.constraint->next(g.states[beam], token))) return true;
    if (g.streams.empty()) return false;
    TextStream stream = g.streams[beam];
    stream.push(token);
    return stream.stopped();
  }

  // What each running beam takes over from the one that it continues.
  void follow(Group& g) const {
    const auto& beams = g.search.running();
    std::vector<TokenConstraint::State> states;
    std::vector<TextStream> streams;
    for (const auto& beam : beams) {
      const auto parent = std::size_t(beam.parent);
      states.push_back(config_.constraint ? config_.constraint->next(g.states[parent], beam.ids.back()) : 0);
      if (g.streams.empty()) continue;
      streams.push_back(g.streams[parent]);
      streams.back().push(beam.ids.back());
    }
    g.states = std::move(states), g.streams = std::move(streams);
  }

  // Gives every running beam a slot with its past, and lists what has to run.
  void hand_over() {
    std::vector<bool> taken(slots_.size());
    std::vector<std::vector<std::size_t>> next;
    std::vector<std::pair<std::size_t, std::size_t>> copies;  // group, beam
    for (std::size_t k = 0; k < groups_.size(); k++) {
      const Group& g = groups_[k];
      next.emplace_back(g.over ? 0 : g.search.running().size());
      for (std::size_t b = 0; b < next[k].size(); b++) {
        const std::size_t parent = g.slot_of[std::size_t(g.search.running()[b].parent)];
        if (taken[parent])
          copies.emplace_back(k, b);
        else
          taken[parent] = true, next[k][b] = parent;
      }
    }
    for (const auto& [k, b] : copies) {
      const Slot& parent = slots_[groups_[k].slot_of[std::size_t(groups_[k].search.running()[b].parent)]];
      const auto free = std::size_t(std::find(taken.begin(), taken.end(), false) - taken.begin());
      slots_[free].cache.copy_from(parent.cache, common_prefix(parent.ids, slots_[free].ids));
      slots_[free].ids = parent.ids;
      taken[free] = true, next[k][b] = free;
    }
    steps_.clear();
    for (std::size_t k = 0; k < groups_.size(); k++) {
      Group& g = groups_[k];
      if (g.over) continue;
      g.slot_of = std::move(next[k]);
      for (std::size_t b = 0; b < g.slot_of.size(); b++) {
        Slot& slot = slots_[g.slot_of[b]];
        slot.ids.push_back(g.search.running()[b].ids.back());
        steps_.push_back({&slot.cache, std::span<const std::int32_t>(slot.ids).last(1), request_.active});
      }
    }
  }

  GenerationRun<T>& run_;
  const GenerationConfig& config_;
  const GenerationRequest<T>& request_;
  std::size_t number_;
  std::int64_t prompt_length_, limit_;
  SequenceRandom random_;
  std::vector<Slot> slots_;
  std::vector<Group> groups_;
  std::vector<typename LanguageModel<T>::Continuation> steps_;
};

template <Scalar T>
void GenerationRun<T>::search_beams(std::size_t r) {
  const Clock::time_point start = Clock::now();
  double prefill_seconds = 0;
  const std::vector<BeamSearch::Hypothesis> found = BeamRun<T>(*this, r).search(prefill_seconds);
  for (std::size_t a = 0; a < answers_ && a < found.size(); a++) {
    const FinishReason reason = !found[a].ended ? FinishReason::length : late() ? FinishReason::timeout : FinishReason::stop;
    results_[r * answers_ + a].score = found[a].score;
    report(r, a, found[a].ids, reason, prefill_seconds, start);
  }
}

}  // namespace peft::detail
