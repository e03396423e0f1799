// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <memory>

#include "peft/core/parallel.hpp"
#include "peft/generate/sampler.hpp"
#include "peft/generate/scoring.hpp"

namespace peft {

PEFT_INLINE double ContinuationScore::sum() const {
  double total = 0;
  for (double l : logprobs) total += l;
  return total;
}
PEFT_INLINE double ContinuationScore::mean() const { return logprobs.empty() ? 0 : sum() / double(logprobs.size()); }

PEFT_INLINE PromptAndContinuation encode_continuation(const Tokenizer& tokenizer, std::string_view prompt, std::string_view continuation) {
  const std::vector<std::int32_t> alone = tokenizer.encode(prompt);
  std::vector<std::int32_t> whole = tokenizer.encode(std::string(prompt) + std::string(continuation));
  // Something must stand on both sides: a token in front, and the last one behind.
  const auto border = std::clamp<std::int64_t>(common_prefix(alone, whole), 1, std::max<std::int64_t>(std::int64_t(whole.size()) - 1, 1));
  if (whole.size() < 2)
    throw ShapeError("score", "prompt and continuation together have " + std::to_string(whole.size()) + " tokens; at least one each is needed");
  return {{whole.begin(), whole.begin() + border}, {whole.begin() + border, whole.end()}};
}

namespace detail {

inline void check_target(std::int32_t id, std::int64_t vocab) {
  if (id < 0 || id >= vocab)
    throw ShapeError("score", fmt::format("the token id {} in a continuation; allowed: 0 to {}, the model's vocabulary", id, vocab - 1));
}

/// f(row number, logits) for every row of hidden states, side by side; few rows of logits exist at a time.
template <Scalar T, class F>
void for_each_row_of_logits(LanguageModel<T>& model, const Tensor<T>& hidden, int active, F f) {
  constexpr std::int64_t tile = 32;
  for (std::int64_t first = 0; first < hidden.rows(); first += tile) {
    const std::int64_t last = std::min(first + tile, hidden.rows());
    const Tensor<T> logits = model.logits(hidden.row_range(first, last), std::vector<int>(std::size_t(last - first), active), ops::Kernel::panel);
    parallel_for(last - first, [&](std::int64_t i) { f(std::size_t(first + i), std::span<const T>(logits.view().row(i), std::size_t(logits.cols()))); });
  }
}

}  // namespace detail

template <Scalar T>
std::vector<ContinuationScore> score_continuations(LanguageModel<T>& model, std::span<const std::int32_t> prompt,
                                                   std::span<const std::vector<std::int32_t>> continuations, int active) {
  using Continuation = typename LanguageModel<T>::Continuation;
  if (prompt.empty()) throw ShapeError("score", "the prompt is empty; a continuation needs at least one token in front");
  model.check_placed(prompt, active);
  std::int64_t longest = 0;
  for (const auto& c : continuations) {
    if (c.empty()) throw ShapeError("score", "a continuation without tokens");
    longest = std::max(longest, std::int64_t(c.size()));
  }
  if (std::int64_t(prompt.size()) + longest > model.context_length() + 1)  // the last token is never an input
    throw ShapeError("score", fmt::format("prompt and continuation have {} tokens; the model's context is {}", std::int64_t(prompt.size()) + longest,
                                          model.context_length()));

  // All but the prompt's last token run once. That one and the continuations but their last tokens follow, in groups that are decoded together;
  // each row predicts one token.
  const auto shared = std::make_shared<KvCache<T>>(model.make_cache(std::int64_t(prompt.size()), active));
  const auto start = std::int32_t(model.config().decoder_start_token_id);
  if (model.has_encoder()) {
    const typename LanguageModel<T>::Source source{prompt, active};
    shared->source = model.read_sources(std::span(&source, 1))[0];
    prompt = std::span(&start, 1);
  }
  if (prompt.size() > 1) {
    const Continuation head{shared.get(), prompt.first(prompt.size() - 1), active};
    model.prefill(std::span(&head, 1));
  }
  std::vector<ContinuationScore> scores(continuations.size());
  constexpr std::size_t most_rows = 512;
  for (std::size_t begin = 0; begin < continuations.size();) {
    std::size_t end = begin, rows = 0;
    while (end < continuations.size() && (end == begin || rows + continuations[end].size() <= most_rows)) rows += continuations[end++].size();
    std::vector<KvCache<T>> caches;
    std::vector<std::vector<std::int32_t>> inputs;
    std::vector<std::int32_t> targets;
    caches.reserve(end - begin), inputs.reserve(end - begin);
    std::vector<Continuation> steps;
    for (std::size_t i = begin; i < end; i++) {
      const auto& c = continuations[i];
      caches.push_back(model.continue_cache(shared, std::int64_t(c.size()), active));
      inputs.push_back({prompt.back()});
      inputs.back().insert(inputs.back().end(), c.begin(), c.end() - 1);
      targets.insert(targets.end(), c.begin(), c.end());
      steps.push_back({&caches.back(), inputs.back(), active});
    }
    const Tensor<T> hidden = model.hidden_states(steps, ops::Kernel::panel);

    std::vector<double> logprobs(rows);
    std::vector<std::uint8_t> greedy(rows);
    detail::for_each_row_of_logits<T>(model, hidden, active, [&](std::size_t at, std::span<const T> row) {
      detail::check_target(targets[at], std::int64_t(row.size()));
      logprobs[at] = log_probability<T>(row, targets[at]);
      greedy[at] = argmax<T>(row) == targets[at];
    });
    std::size_t at = 0;
    for (std::size_t i = begin; i < end; i++) {
      ContinuationScore& s = scores[i];
      s.ids = continuations[i];
      s.is_greedy = true;
      for (std::size_t k = 0; k < s.ids.size(); k++, at++) s.logprobs.push_back(logprobs[at]), s.is_greedy = s.is_greedy && greedy[at];
    }
    begin = end;
  }
  return scores;
}

template <Scalar T>
PromptLogprobs prompt_logprobs(LanguageModel<T>& model, std::span<const std::int32_t> ids, std::int64_t top, int active) {
  PromptLogprobs found;
  if (ids.size() < 2) return found;
  model.check_placed(ids, active);
  if (std::int64_t(ids.size()) > model.context_length() + 1)
    throw ShapeError("score", fmt::format("a text of {} tokens; the model's context is {}", ids.size(), model.context_length()));
  KvCache<T> cache = model.make_cache(std::int64_t(ids.size()) - 1, active);
  const typename LanguageModel<T>::Continuation all{&cache, ids.first(ids.size() - 1), active};
  Tensor<T> hidden;
  model.prefill(std::span(&all, 1), &hidden);
  found.logprobs.resize(ids.size() - 1), found.top.resize(ids.size() - 1);
  detail::for_each_row_of_logits<T>(model, hidden, active, [&](std::size_t i, std::span<const T> row) {
    detail::check_target(ids[i + 1], std::int64_t(row.size()));
    found.logprobs[i] = log_probability<T>(row, ids[i + 1]);
    if (top > 0) found.top[i] = top_log_probabilities<T>(row, top);
  });
  return found;
}

template <Scalar T>
Perplexity token_perplexity(LanguageModel<T>& model, std::span<const std::int32_t> ids, const PerplexityOptions& options) {
  const std::int64_t count = std::int64_t(ids.size()), context = model.context_length();
  const std::int64_t length = options.max_length > 0 ? options.max_length : std::min<std::int64_t>(context, 1024);
  const std::int64_t stride = options.stride > 0 ? options.stride : std::max<std::int64_t>(length / 2, 1);
  if (options.max_length < 0 || length < 2 || length > context)
    throw ConfigError("perplexity", fmt::format("max_length = {}; allowed: 2 to {}, the model's context", length, context));
  if (options.stride < 0 || stride > length) throw ConfigError("perplexity", fmt::format("stride = {}; allowed: 1 to max_length, which is {}", stride, length));
  model.check_placed(ids, 0);
  if (count < 2) throw ShapeError("perplexity", fmt::format("a text of {} tokens; at least two are needed, one to predict the other", count));
  Perplexity p;
  std::int64_t predicted = 1;  // ids that are done; the first is given
  for (std::int64_t begin = 0; predicted < count; begin += stride) {
    const std::int64_t end = std::min(begin + length, count);
    // Rows from the one in front of the first new token.
    KvCache<T> cache = model.make_cache(end - begin);
    const typename LanguageModel<T>::Continuation window{&cache, ids.subspan(std::size_t(begin), std::size_t(end - begin - 1)), 0};
    const std::int64_t first = std::max(predicted, begin + 1);
    if (first < end) {
      Tensor<T> hidden;
      model.prefill(std::span(&window, 1), &hidden);
      std::vector<double> log_p(std::size_t(end - first));
      detail::for_each_row_of_logits<T>(model, hidden.row_range(first - 1 - begin, end - 1 - begin), 0, [&](std::size_t i, std::span<const T> row) {
        const std::int32_t target = ids[std::size_t(first) + i];
        detail::check_target(target, std::int64_t(row.size()));
        log_p[i] = log_probability<T>(row, target);
      });
      for (double l : log_p) p.negative_log_likelihood -= l;
      if (!std::isfinite(p.negative_log_likelihood))
        throw Error("perplexity",
                    fmt::format("the loss of the tokens {} to {} is not finite: the model or an adapter is broken, some weight is NaN, infinite or "
                                "far too large",
                                first, end - 1));
      p.tokens += end - first;
    }
    predicted = end;
    if (options.on_progress) options.on_progress(predicted, count);
  }
  return p;
}

}  // namespace peft
