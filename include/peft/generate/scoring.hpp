// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>
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

/// Scores continuations of one prompt, in ids: the prompt runs once, then all continuations together. Throws ShapeError for an empty prompt or
/// continuation, unknown ids, and what is longer than the model's context.
template <Scalar T>
std::vector<ContinuationScore> score_continuations(LanguageModel<T>& model, std::span<const std::int32_t> prompt,
                                                   std::span<const std::vector<std::int32_t>> continuations, int active = 0);

/// A prompt and a continuation as ids: the tokens of the whole text, from where they differ from the prompt's own.
struct PromptAndContinuation {
  std::vector<std::int32_t> prompt, continuation;
};
PromptAndContinuation encode_continuation(const Tokenizer& tokenizer, std::string_view prompt, std::string_view continuation);

/// In ids.
template <class M>
std::vector<ContinuationScore> score_ids(const M& model, const std::vector<std::int32_t>& prompt, const std::vector<std::vector<std::int32_t>>& continuations) {
  static_assert(detail::is_language_model<M>, "scoring needs a Transformer<float> or <double>, or a PeftModel of one: what load_model returns");
  LanguageModel<typename detail::LanguageModelScalar<M>::type> view(model);
  return score_continuations<typename detail::LanguageModelScalar<M>::type>(view, prompt, continuations);
}

/// In text, as it is: no chat template is applied. Continuations usually begin with a space.
template <class M>
std::vector<ContinuationScore> score(const M& model, const Tokenizer& tokenizer, std::string_view prompt, const std::vector<std::string>& continuations) {
  std::vector<ContinuationScore> scores;
  // Where the border between prompt and continuation falls on the same token, one prompt serves all.
  std::vector<PromptAndContinuation> all;
  for (const std::string& c : continuations) all.push_back(encode_continuation(tokenizer, prompt, c));
  for (std::size_t i = 0; i < all.size();) {
    std::vector<std::vector<std::int32_t>> together;
    std::size_t end = i;
    for (; end < all.size() && all[end].prompt == all[i].prompt; end++) together.push_back(all[end].continuation);
    for (ContinuationScore& s : score_ids(model, all[i].prompt, together)) scores.push_back(std::move(s));
    i = end;
  }
  return scores;
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/scoring.inl"
#endif
