// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "peft/generate/language_model.hpp"
#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

/// How likely a model finds a continuation of a prompt.
struct ContinuationScore {
  std::vector<std::int32_t> ids;  // the continuation's tokens,
  std::vector<double> logprobs;   // and log p of each, given all before it
  bool is_greedy = false;         // greedy decoding would have produced exactly this

  /// log p of the whole.
  double sum() const;
  /// sum() / tokens; 0 for none.
  double mean() const;
};

/// Scores continuations of one prompt, in ids: the prompt runs once, then all continuations together. An encoder-decoder's are answers to the
/// prompt. Throws ShapeError for an empty prompt or
/// continuation, unknown ids, and what is longer than the model's context.
template <Scalar T>
std::vector<ContinuationScore> score_continuations(LanguageModel<T>& model, std::span<const std::int32_t> prompt,
                                                   std::span<const std::vector<std::int32_t>> continuations, int active = 0);

/// A prompt and a continuation as ids: the tokens of the whole text, from where they differ from the prompt's own.
struct PromptAndContinuation {
  std::vector<std::int32_t> prompt, continuation;
};
PromptAndContinuation encode_continuation(const Tokenizer& tokenizer, std::string_view prompt, std::string_view continuation);

/// log p of each id of a sequence but the first, given those before it, and of the `top` likeliest in its place.
struct PromptLogprobs {
  std::vector<double> logprobs;
  std::vector<std::vector<std::pair<std::int32_t, double>>> top;
};
template <Scalar T>
PromptLogprobs prompt_logprobs(LanguageModel<T>& model, std::span<const std::int32_t> ids, std::int64_t top = 0, int active = 0);

/// How well a model predicts a text: e^(mean of −log p).
struct Perplexity {
  std::int64_t tokens = 0;             // that were predicted
  double negative_log_likelihood = 0;  // Σ −log p, in nats
  std::int64_t bytes = 0;              // of the text; 0 where only ids are known
  double value() const { return tokens > 0 ? std::exp(negative_log_likelihood / double(tokens)) : 1; }
  double bits_per_byte() const { return bytes > 0 ? negative_log_likelihood / double(bytes) / std::log(2.0) : 0; }
};
/// How a long text is cut: windows of max_length tokens that begin `stride` tokens apart; each token is predicted once, in the first window that
/// holds it, with at least max_length − stride tokens in front (at the start fewer). stride = max_length: windows that share nothing, the fastest;
/// the first token of each is not predicted then. As Hugging Face's guide to perplexity has it, each token weighing the same.
struct PerplexityOptions {
  std::int64_t max_length = 0;  // 0: the model's context, 1024 at most
  std::int64_t stride = 0;      // 0: half of max_length
  std::function<void(std::int64_t done, std::int64_t all)> on_progress = {};
};
/// Throws ConfigError for a stride or a length that is impossible, ShapeError for fewer than two ids, Error where a loss is not finite.
template <Scalar T>
Perplexity token_perplexity(LanguageModel<T>& model, std::span<const std::int32_t> ids, const PerplexityOptions& options = {});

/// In ids.
template <class M>
std::vector<ContinuationScore> score_ids(const M& model, const std::vector<std::int32_t>& prompt, const std::vector<std::vector<std::int32_t>>& continuations) {
  static_assert(detail::is_language_model<M>, "scoring needs a Transformer<float> or <double>, or a PeftModel of one: what load_model returns");
  LanguageModel<typename detail::LanguageModelScalar<M>::type> view(model);
  return score_continuations<typename detail::LanguageModelScalar<M>::type>(view, prompt, continuations);
}

/// In text, as it is: no chat template is applied. Continuations usually begin with a space. Answers of an encoder-decoder are scored without eos.
template <class M>
std::vector<ContinuationScore> score(const M& model, const Tokenizer& tokenizer, std::string_view prompt, const std::vector<std::string>& continuations) {
  std::vector<ContinuationScore> scores;
  // Where the border between prompt and continuation falls on the same token, one prompt serves all.
  std::vector<PromptAndContinuation> all;
  const bool answers = LanguageModel<typename detail::LanguageModelScalar<M>::type>(model).has_encoder();
  for (const std::string& c : continuations)
    all.push_back(answers ? PromptAndContinuation{tokenizer.encode(prompt), tokenizer.encode(c, {.add_special_tokens = false})}
                          : encode_continuation(tokenizer, prompt, c));
  for (std::size_t i = 0; i < all.size();) {
    std::vector<std::vector<std::int32_t>> together;
    std::size_t end = i;
    for (; end < all.size() && all[end].prompt == all[i].prompt; end++) together.push_back(all[end].continuation);
    for (ContinuationScore& s : score_ids(model, all[i].prompt, together)) scores.push_back(std::move(s));
    i = end;
  }
  return scores;
}

/// The choices' numbers, the best first: by the mean log p of a token (length-normalised), or by the sum.
struct RankedChoice {
  std::size_t index;
  double value;  // what they are ranked by
  ContinuationScore score;
};
template <class M>
std::vector<RankedChoice> rank_choices(const M& model, const Tokenizer& tokenizer, std::string_view prompt, const std::vector<std::string>& choices,
                                       bool length_normalised = true) {
  std::vector<ContinuationScore> scores = score(model, tokenizer, prompt, choices);
  std::vector<RankedChoice> ranked;
  for (std::size_t i = 0; i < scores.size(); i++) {
    const double value = length_normalised ? scores[i].mean() : scores[i].sum();
    ranked.push_back({i, value, std::move(scores[i])});
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const RankedChoice& a, const RankedChoice& b) { return a.value > b.value; });
  return ranked;
}

/// Of a text, as it is.
template <class M>
Perplexity perplexity(const M& model, const Tokenizer& tokenizer, std::string_view text, const PerplexityOptions& options = {}) {
  static_assert(detail::is_language_model<M>, "perplexity needs a Transformer<float> or <double>, or a PeftModel of one: what load_model returns");
  using T = typename detail::LanguageModelScalar<M>::type;
  LanguageModel<T> view(model);
  Perplexity p = token_perplexity<T>(view, tokenizer.encode(text), options);
  p.bytes = std::int64_t(text.size());
  return p;
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/scoring.inl"
#endif
