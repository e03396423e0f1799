// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "peft/core/dtype.hpp"
#include "peft/generate/config.hpp"

namespace peft {

class Json;

/// What changes a row of logits before a token is chosen. row (V) is changed in place; what is taken out becomes −∞; ids is the sequence so far,
/// the prompt included; ids beyond the vocabulary (virtual tokens) are passed over. As Hugging Face's processors of these names do it, in the
/// row's own precision. None of them allocates more than scratch memory from the pool.
namespace logits {

/// Seen tokens: l / penalty if l ≥ 0, else l · penalty.
template <Scalar T>
void repetition_penalty(std::span<T> row, std::span<const std::int32_t> ids, double penalty);
/// l − frequency · count − presence · (count > 0) (OpenAI).
template <Scalar T>
void frequency_presence_penalty(std::span<T> row, std::span<const std::int32_t> ids, double frequency, double presence);
/// Takes out every token that would repeat an n-gram of ids.
template <Scalar T>
void no_repeat_ngram(std::span<T> row, std::span<const std::int32_t> ids, std::int64_t n);
/// Takes out every token that would make ids end with an n-gram of `encoder_ids`.
template <Scalar T>
void encoder_no_repeat_ngram(std::span<T> row, std::span<const std::int32_t> ids, std::span<const std::int32_t> encoder_ids, std::int64_t n);
/// Adds `bias` to the last token of `sequence` where ids ends with the others. A sequence longer than ids does nothing.
template <Scalar T>
void sequence_bias(std::span<T> row, std::span<const std::int32_t> ids, std::span<const std::int32_t> sequence, double bias);
/// Takes out these tokens.
template <Scalar T>
void suppress(std::span<T> row, std::span<const std::int32_t> tokens);
/// Leaves these tokens as they are, and nothing else. Throws ConfigError if there are none.
template <Scalar T>
void allow_only(std::span<T> row, std::span<const std::int32_t> tokens);
/// Leaves these tokens, each with the logit 0, and nothing else.
template <Scalar T>
void force(std::span<T> row, std::span<const std::int32_t> tokens);
/// `over` tokens behind the start: adds |l| (factor^over − 1) to the logits of eos.
template <Scalar T>
void exponential_decay_length_penalty(std::span<T> row, std::span<const std::int32_t> eos, std::int64_t over, double factor);

template <Scalar T>
void temperature(std::span<T> row, double temperature);
/// Keeps the k largest, and what equals the smallest of them.
template <Scalar T>
void top_k(std::span<T> row, std::int64_t k, std::int64_t min_tokens_to_keep = 1);
/// Keeps the most probable tokens that together reach p: takes out those whose ascending cumulative probability is at most 1 − p.
template <Scalar T>
void top_p(std::span<T> row, double p, std::int64_t min_tokens_to_keep = 1);
template <Scalar T>
void min_p(std::span<T> row, double p, std::int64_t min_tokens_to_keep = 1);
/// Keeps the tokens whose information −log p is nearest to the entropy, until they reach `mass`.
template <Scalar T>
void typical_p(std::span<T> row, double mass, std::int64_t min_tokens_to_keep = 1);
template <Scalar T>
void epsilon_cutoff(std::span<T> row, double epsilon, std::int64_t min_tokens_to_keep = 1);
template <Scalar T>
void eta_cutoff(std::span<T> row, double epsilon, std::int64_t min_tokens_to_keep = 1);
/// l − log Σ eˡ. Returns log Σ eˡ.
template <Scalar T>
double log_softmax(std::span<T> row);

}  // namespace logits

/// A row's place: the sequence, and what its constraints say.
struct LogitsContext {
  std::span<const std::int32_t> ids;                   // so far,
  std::int64_t prompt_length = 0;                      // of which so many are the prompt
  std::int64_t limit = 0;                              // tokens that the answer may have
  std::int32_t constraint_state = 0;                   // where GenerationConfig::constraint stands
  const std::vector<std::int32_t>* allowed = nullptr;  // what prefix_allowed_tokens_fn said; null: not asked
  std::span<const std::int32_t> source = {};           // what encoder_… settings go by: the prompt, or what an encoder read
};

/// All that a GenerationConfig asks for, in Hugging Face's order: sequence_bias, encoder_repetition_penalty, repetition_penalty,
/// no_repeat_ngram_size, encoder_no_repeat_ngram_size, bad_words_ids, min_length, min_new_tokens, prefix_allowed_tokens_fn, forced tokens,
/// exponential decay, suppressed tokens, OpenAI's penalties, the constraint; and then, if tokens are drawn, temperature, top_k, top_p, min_p,
/// typical_p, epsilon_cutoff, eta_cutoff, which with beams leave one token more than there are eos.
class LogitsProcessors {
 public:
  LogitsProcessors(const GenerationConfig& config, std::vector<std::int32_t> eos_token_ids);

  /// True if a row comes out as it went in.
  bool empty() const { return !changes_ && !sampling_; }
  /// row: the logits of what follows context.ids. For several rows at once, from any thread.
  template <Scalar T>
  void operator()(std::span<T> row, const LogitsContext& context) const;
  /// What prefix_allowed_tokens_fn allows; a ConfigError if that is nothing.
  std::vector<std::int32_t> allowed(std::size_t prompt, std::span<const std::int32_t> ids) const;
  bool asks_for_allowed() const { return bool(config_.prefix_allowed_tokens_fn); }

 private:
  template <Scalar T>
  void change(std::span<T> row, const LogitsContext& context) const;
  template <Scalar T>
  void filter(std::span<T> row) const;

  GenerationConfig config_;
  std::vector<std::int32_t> eos_;
  std::int64_t keep_ = 1;
  bool changes_ = false, sampling_ = false;
};

/// One processor by the name of Hugging Face's class, its settings by the names of that class's arguments: "TopKLogitsWarper", {"top_k": 5};
/// or several with their first argument, "TemperatureLogitsWarper(0.8), TopKLogitsWarper(10)". OpenAI's penalties are
/// "FrequencyPresencePenalty". Throws ConfigError for a name that is not known, with the nearest one, and for a setting that is missing.
template <Scalar T>
void process_logits(std::string_view processor, const Json& settings, std::span<const std::int32_t> ids, std::span<T> row);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/logits_chain.inl"
#include "peft/generate/impl/logits_processor.inl"
#endif
