// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "peft/generate/config.hpp"
#include "peft/generate/constraint.hpp"
#include "peft/generate/language_model.hpp"
#include "peft/generate/prompt_cache.hpp"
#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

/// Why a text ended. stop: eos, a stop string, or a constraint that is fulfilled; length: max_new_tokens or the model's context; cancelled: the
/// callback said so; timeout: max_time was over.
enum class FinishReason { stop, length, cancelled, timeout };
/// "stop", "length", "cancelled", "timeout"
std::string_view name(FinishReason reason);

/// One generated text.
struct Generation {
  std::string text;               // cut before a stop string; without special tokens; behind the prompt if echo was asked for
  std::vector<std::int32_t> ids;  // what was generated, eos included
  FinishReason finish_reason = FinishReason::length;
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;                                          // of the prompt, those that a cache held already
  double prefill_seconds = 0;                                              // of the group of prompts that was read together
  double decode_seconds = 0;                                               // from the first token to the last
  std::vector<double> logprobs;                                            // log p of each id before processors and temperature, if output_logprobs
  std::vector<std::vector<std::pair<std::int32_t, double>>> top_logprobs;  // of each step, the likeliest tokens with their log p, likewise; if top_logprobs
  double score = 0;                                                        // beam search: Σ log p / length^length_penalty
  std::int64_t proposed_tokens = 0, accepted_tokens = 0;                   // assisted decoding: what was proposed, and what of it was right

  std::int64_t completion_tokens() const { return std::int64_t(ids.size()); }
  /// Tokens a second while decoding; 0 if there was one token or none.
  double tokens_per_second() const { return decode_seconds > 0 && ids.size() > 1 ? double(ids.size() - 1) / decode_seconds : 0; }
};

/// Takes pieces of text as they become certain; returns false to stop. A callable that returns nothing never stops.
class TextCallback {
 public:
  TextCallback() = default;
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, TextCallback> && std::is_invocable_v<F&, std::string_view>) TextCallback(F f) {
    if constexpr (std::is_convertible_v<std::invoke_result_t<F&, std::string_view>, bool>)
      call_ = std::move(f);
    else
      call_ = [f = std::move(f)](std::string_view text) mutable { return f(text), true; };
  }
  bool operator()(std::string_view text) const { return !call_ || call_(text); }
  explicit operator bool() const { return bool(call_); }

 private:
  std::function<bool(std::string_view)> call_;
};

/// One sequence to continue, in ids: the engine's own form.
template <Scalar T>
struct GenerationRequest {
  std::span<const std::int32_t> ids;  // the prompt; of an encoder-decoder, what its encoder reads
  KvCache<T>* cache = nullptr;        // may hold a beginning of the prompt, and holds the sequence afterwards (all but its last token); null: an own one
  int active = 0;                     // which of the model's active lists
  TextCallback on_text = {};
  const PromptCache<T>* prefix = nullptr;                                   // a beginning of the prompt that was read before; outlives the run
  std::function<bool(std::size_t answer, std::string_view)> on_piece = {};  // as on_text, of several answers: which one, and its piece
  std::function<void(std::size_t answer, const Generation&)> on_done = {};  // an answer that is over, as soon as it is
  PromptCache<T>* draft_past = nullptr;                                     // what the draft model has read, for its next call; begins empty
};

/// Continues every request: num_return_sequences (or as many of the best beams) for each, one after the other. With a null tokenizer there is
/// no text: stop strings and callbacks are refused. Sequences are decoded together, config.batch_size at a time; each gets the same tokens that
/// it would get alone. What prompts of one active list have in common at their start is read once. `draft`: a smaller model of the same vocabulary,
/// whose guesses `model` checks (assisted decoding). Throws ConfigError for a config that is not valid, ShapeError for prompts that are empty, hold unknown
/// ids, or are longer than the model's context. An encoder-decoder reads each prompt with its encoder, once, and answers from its
/// decoder_start_token_id on; NotSupported for requests with caches or prefixes then.
template <Scalar T>
std::vector<Generation> run_generation(LanguageModel<T>& model, std::span<const GenerationRequest<T>> requests, const GenerationConfig& config,
                                       const Tokenizer* tokenizer = nullptr, LanguageModel<T>* draft = nullptr);

/// The ids that a prompt becomes: as the config's prompt_template says.
std::vector<std::int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view prompt, const GenerationConfig& config = {});

/// What ends a text: the config's eos_token_ids, or else the model's, the tokenizer's, and what ends a turn of its chat template.
std::vector<std::int32_t> eos_token_ids(const GenerationConfig& config, const TransformerConfig& model, const Tokenizer* tokenizer = nullptr);

namespace detail {
template <class M>
std::vector<Generation> generate_from_ids(const M& model, const std::vector<std::vector<std::int32_t>>& prompts, const GenerationConfig& config,
                                          const Tokenizer* tokenizer, const TextCallback& on_text = {}) {
  static_assert(is_language_model<M>, "generation needs a Transformer<float> or <double>, or a PeftModel of one: what load_model returns");
  using T = typename detail::LanguageModelScalar<M>::type;
  LanguageModel<T> view(model);
  std::vector<GenerationRequest<T>> requests;
  for (const auto& prompt : prompts) requests.push_back({prompt, nullptr, 0, on_text});
  return run_generation<T>(view, requests, config, tokenizer);
}
}  // namespace detail

/// Continues prompts that are ids. One Generation a prompt (num_return_sequences of them, one after the other).
template <class M>
std::vector<Generation> generate_ids(const M& model, const std::vector<std::vector<std::int32_t>>& prompts, const GenerationConfig& config = {}) {
  return detail::generate_from_ids(model, prompts, config, nullptr);
}

/// The same with the help of a draft model: the same ids, sooner if its guesses are good.
template <class M, class D>
std::vector<Generation> generate_ids_assisted(const M& model, const D& draft, const std::vector<std::vector<std::int32_t>>& prompts,
                                              const GenerationConfig& config = {}, const Tokenizer* tokenizer = nullptr) {
  static_assert(detail::is_language_model<M> && detail::is_language_model<D>, "generation needs a Transformer<float> or <double>, or a PeftModel of one");
  using T = typename detail::LanguageModelScalar<M>::type;
  LanguageModel<T> view(model), guesses(draft);
  std::vector<GenerationRequest<T>> requests;
  for (const auto& prompt : prompts) requests.push_back({prompt});
  return run_generation<T>(view, requests, config, tokenizer, &guesses);
}

/// Prompts of which each is answered by adapters of its own, together in one batch: `adapters` has their names for each prompt, innermost first;
/// none: the base. Throws AdapterError for a name that there is not.
template <class M>
std::vector<Generation> complete_all_with(const PeftModel<M>& model, const Tokenizer& tokenizer, const std::vector<std::string>& prompts,
                                          const std::vector<std::vector<std::string>>& adapters, const GenerationConfig& config = {}) {
  using T = typename PeftModel<M>::T;
  if (adapters.size() != prompts.size())
    throw ConfigError("generate", std::to_string(adapters.size()) + " lists of adapters for " + std::to_string(prompts.size()) + " prompts");
  std::vector<std::vector<std::int32_t>> ids;
  for (const std::string& prompt : prompts) ids.push_back(encode_prompt(tokenizer, prompt, config));
  std::vector<int> list_of;
  LanguageModel<T> view(model, active_lists(model, adapters, list_of));
  std::vector<GenerationRequest<T>> requests;
  for (std::size_t i = 0; i < ids.size(); i++) requests.push_back({ids[i], nullptr, list_of[i]});
  return run_generation<T>(view, requests, config, &tokenizer);
}

/// The answer to a prompt with all that is known about it; `on_text` gets the text piece by piece.
template <class M>
Generation complete(const M& model, const Tokenizer& tokenizer, std::string_view prompt, const GenerationConfig& config = {},
                    const TextCallback& on_text = {}) {
  return detail::generate_from_ids(model, {encode_prompt(tokenizer, prompt, config)}, config, &tokenizer, on_text).at(0);
}

/// The answers to several prompts, decoded together; num_return_sequences for each.
template <class M>
std::vector<Generation> complete_all(const M& model, const Tokenizer& tokenizer, const std::vector<std::string>& prompts, const GenerationConfig& config = {}) {
  std::vector<std::vector<std::int32_t>> ids;
  for (const std::string& prompt : prompts) ids.push_back(encode_prompt(tokenizer, prompt, config));
  return detail::generate_from_ids(model, ids, config, &tokenizer);
}

/// The text that the model answers: `generate(model, tokenizer, "My printer is on fire.", {.max_tokens = 64, .temperature = 0.7})`.
/// Works for a model and for a PeftModel, which answers with its active adapters.
template <class M>
std::string generate(const M& model, const Tokenizer& tokenizer, std::string_view prompt, const GenerationConfig& config = {},
                     const TextCallback& on_text = {}) {
  return complete(model, tokenizer, prompt, config, on_text).text;
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/text_generation.inl"
#endif
