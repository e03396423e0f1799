// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/generate/impl/generation_run.inl"

namespace peft::detail {

// One more token for every active sequence, or more where a proposal is right.
template <Scalar T>
void GenerationRun<T>::step() {
  propose();
  steps_.clear();
  inputs_.resize(active_.size());
  for (std::size_t i = 0; i < active_.size(); i++) {
    const Running& s = active_[i];
    inputs_[i].assign(1, s.ids.back());
    inputs_[i].insert(inputs_[i].end(), s.draft.begin(), s.draft.end());
    steps_.push_back({s.cache, inputs_[i], s.request->active});
  }
  if (std::all_of(active_.begin(), active_.end(), [](const Running& s) { return s.draft.empty(); }))
    return choose(0, model_.last_logits(steps_, ops::Kernel::dot));
  const Tensor<T> hidden = model_.hidden_states(steps_, ops::Kernel::dot);
  std::vector<int> lists;
  for (const auto& step : steps_) lists.insert(lists.end(), step.ids.size(), step.active);
  choose(0, model_.logits(hidden, lists, ops::Kernel::dot));
}

template <Scalar T>
void GenerationRun<T>::propose() {
  for (Running& s : active_) s.draft.clear();
  if (config_.prompt_lookup_num_tokens == 0 && !draft_) return;
  std::vector<DraftRequest<T>> wanted;
  for (Running& s : active_) {
    const auto most = std::size_t(std::max<std::int64_t>(s.limit - s.result->completion_tokens() - 1, 0));
    if (!draft_)
      s.draft = look_up(s.ids, std::min(most, std::size_t(config_.prompt_lookup_num_tokens)), config_.max_matching_ngram_size);
    else
      wanted.push_back({s.prompt * answers_ + s.answer, &s.ids, s.prompt_length, s.limit, s.state, &s.random, most, &s.draft, s.request->ids,
                        answers_ == 1 ? s.request->draft_past : nullptr});
  }
  if (draft_) draft_->propose(wanted);
  for (Running& s : active_) {
    s.draft.erase(std::find_if(s.draft.begin(), s.draft.end(), [&](std::int32_t id) { return is_eos(id) || id < 0 || id >= model_.config().vocab_size; }),
                  s.draft.end());
    s.result->proposed_tokens += std::int64_t(s.draft.size());
  }
}

// Active sequence `first` and those behind it have each a row, and one more for each token of their drafts.
template <Scalar T>
void GenerationRun<T>::choose(std::size_t first, const Tensor<T>& rows) {
  std::vector<std::int64_t> begins;
  std::int64_t next = 0;
  for (std::size_t i = first; i < active_.size(); i++) begins.push_back(next), next += 1 + std::int64_t(active_[i].draft.size());
  const auto one = [&](std::int64_t i) {
    Running& s = active_[first + std::size_t(i)];
    const std::size_t before = s.ids.size();
    TokenConstraint::State state = s.state;
    s.chosen.clear();
    for (std::int64_t k = 0;; k++) {
      const std::span<T> row(rows.view().row(begins[std::size_t(i)] + k), std::size_t(rows.cols()));
      s.chosen.push_back(chosen(s, row, s.result->completion_tokens() + k, state));
      const std::int32_t token = s.chosen.back().token;
      // The next row was computed as if the proposal were right. It counts if that is what was chosen anyway.
      if (k == std::int64_t(s.draft.size()) || token != s.draft[std::size_t(k)]) break;
      s.ids.push_back(token);
      if (!config_.constraint) continue;
      state = config_.constraint->next(state, token);
      if (config_.constraint->finished(state)) break;
    }
    s.ids.resize(before);
  };
  const auto count = std::int64_t(active_.size() - first);
  if (processors_.asks_for_allowed())
    for (std::int64_t i = 0; i < count; i++) one(i);
  else
    parallel_for(count, one);
  for (std::size_t i = first; i < active_.size(); i++) {
    Running& s = active_[i];
    for (std::size_t k = 0; k < s.chosen.size() && !s.done; k++) {
      if (k > 0) s.result->accepted_tokens++;
      accept(s, s.chosen[k]);
    }
    s.draft.clear();
    s.cache->truncate(std::int64_t(s.ids.size()) - 1);  // behind a proposal that was wrong
    if (s.done && draft_) draft_->forget(s.prompt * answers_ + s.answer);
  }
  std::erase_if(active_, [](const Running& s) { return s.done; });
}

template <Scalar T>
typename GenerationRun<T>::Choice GenerationRun<T>::chosen(const Running& s, std::span<T> row, std::int64_t step, TokenConstraint::State state) const {
  Choice choice;
  Scratch<T> raw;
  const bool reports = config_.output_logprobs || config_.top_logprobs > 0;
  if (reports) raw.assign(row.begin(), row.end());
  if (!processors_.empty()) {
    std::vector<std::int32_t> allowed;
    if (processors_.asks_for_allowed()) allowed = processors_.allowed(s.prompt, s.ids);
    processors_.template operator()<T>(row, {s.ids, s.prompt_length, s.limit, state, processors_.asks_for_allowed() ? &allowed : nullptr, s.request->ids});
  }
  choice.token = samples(config_) ? sample<T>(row, s.random.uniform(step)) : argmax<T>(row);
  if (config_.output_logprobs) choice.logprob = log_probability<T>(raw, choice.token);
  if (config_.top_logprobs > 0) choice.top = top_log_probabilities<T>(raw, config_.top_logprobs);
  return choice;
}

template <Scalar T>
void GenerationRun<T>::accept(Running& s, const Choice& choice) {
  Generation& g = *s.result;
  s.ids.push_back(choice.token), g.ids.push_back(choice.token);
  if (config_.output_logprobs) g.logprobs.push_back(choice.logprob);
  if (config_.top_logprobs > 0) g.top_logprobs.push_back(choice.top);
  if (is_eos(choice.token)) {
    finish(s, FinishReason::stop);
  } else {
    if (config_.constraint) s.state = config_.constraint->next(s.state, choice.token);
    if (s.stream && !tell(s, s.stream->push(choice.token)))
      s.done = true, g.finish_reason = FinishReason::cancelled;
    else if ((s.stream && s.stream->stopped()) || (config_.constraint && config_.constraint->finished(s.state)))
      finish(s, FinishReason::stop);
    else if (g.completion_tokens() >= s.limit)
      finish(s, FinishReason::length);
  }
  if (s.done) close(s);
}

template <Scalar T>
void GenerationRun<T>::close(Running& s) const {
  s.result->decode_seconds = seconds_since(s.start);
  if (s.request->on_done) s.request->on_done(s.answer, *s.result);
}

template <Scalar T>
void GenerationRun<T>::finish(Running& s, FinishReason reason) {
  s.done = true, s.result->finish_reason = reason;
  if (s.stream) tell(s, s.stream->finish());
}

template <Scalar T>
bool GenerationRun<T>::tell(Running& s, const std::string& text) const {
  s.result->text += text;
  return text.empty() || (s.request->on_text(text) && (!s.request->on_piece || s.request->on_piece(s.answer, text)));
}

// Ids that were found by a search, as the answer number a of request r.
template <Scalar T>
void GenerationRun<T>::report(std::size_t r, std::size_t a, std::vector<std::int32_t> ids, FinishReason reason, double prefill_seconds,
                              Clock::time_point start) {
  const Request& request = requests_[r];
  Generation& g = results_[r * answers_ + a];
  describe_prompt(g, request);
  g.ids = std::move(ids), g.finish_reason = reason;
  g.prefill_seconds = prefill_seconds, g.decode_seconds = seconds_since(start) - prefill_seconds;
  if (tokenizer_) {
    TextStream stream(*tokenizer_, config_.stop, beginning(request));
    std::string text;
    for (std::size_t i = 0; i < g.ids.size() && !(i + 1 == g.ids.size() && is_eos(g.ids[i])); i++) text += stream.push(g.ids[i]);
    text += stream.finish();
    g.text += text;
    if (a == 0 && !text.empty()) request.on_text(text);
    if (request.on_piece && !text.empty()) request.on_piece(a, text);
  }
  if (request.on_done) request.on_done(a, g);
}

}  // namespace peft::detail
