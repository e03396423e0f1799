// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <cmath>

#include "peft/core/error.hpp"
#include "peft/generate/config.hpp"

namespace peft {

namespace detail {
template <class V>
void allow(bool fine, const char* field, const V& value, const char* allowed) {
  if (!fine) throw ConfigError("generate", fmt::format("{} = {}; allowed: {}", field, value, allowed));
}
inline void allow_ids(const char* field, const std::vector<std::int32_t>& ids) {
  for (std::int32_t id : ids) allow(id >= 0, field, id, "token ids, 0 or more");
}
}  // namespace detail

PEFT_INLINE std::int64_t max_new_tokens(const GenerationConfig& config) { return config.max_new_tokens.value_or(config.max_tokens.value_or(256)); }

PEFT_INLINE std::int64_t max_new_tokens(const GenerationConfig& config, std::int64_t prompt_length) {
  return config.max_length && !config.max_new_tokens && !config.max_tokens ? *config.max_length - prompt_length : max_new_tokens(config);
}

PEFT_INLINE bool samples(const GenerationConfig& config) {
  if (config.temperature == 0.0) return false;
  if (config.do_sample) return *config.do_sample;
  if (config.num_beams > 1 || config.penalty_alpha > 0) return false;
  return config.temperature || config.top_k > 0 || config.top_p < 1 || config.min_p > 0 || config.typical_p < 1 || config.epsilon_cutoff > 0 ||
         config.eta_cutoff > 0;
}

PEFT_INLINE void validate(const GenerationConfig& c) {
  using detail::allow;
  const auto finite = [](double x) { return std::isfinite(x); };
  const auto between = [](double x, double low, double high) { return x >= low && x <= high; };
  if (c.max_new_tokens) allow(*c.max_new_tokens >= 1, "max_new_tokens", *c.max_new_tokens, "1 or more");
  if (c.max_tokens) allow(*c.max_tokens >= 1, "max_tokens", *c.max_tokens, "1 or more");
  if (c.max_new_tokens && c.max_tokens && *c.max_new_tokens != *c.max_tokens)
    throw ConfigError("generate", fmt::format("max_new_tokens = {} and max_tokens = {}; these are two names for one number: give one of them",
                                              *c.max_new_tokens, *c.max_tokens));
  allow(c.min_new_tokens >= 0, "min_new_tokens", c.min_new_tokens, "0 or more");
  if (c.max_length) allow(*c.max_length >= 1, "max_length", *c.max_length, "1 or more");
  if (c.min_new_tokens > max_new_tokens(c) && (!c.max_length || c.max_new_tokens || c.max_tokens))
    throw ConfigError("generate", fmt::format("min_new_tokens = {}; allowed: at most max_new_tokens, which is {}", c.min_new_tokens, max_new_tokens(c)));
  allow(c.min_length >= 0, "min_length", c.min_length, "0 or more");
  if (c.max_time) allow(finite(*c.max_time) && *c.max_time > 0, "max_time", *c.max_time, "seconds, above 0");

  if (c.temperature) allow(finite(*c.temperature) && *c.temperature >= 0, "temperature", *c.temperature, "0 (greedy) or more");
  allow(c.top_k >= 0, "top_k", c.top_k, "0 (all tokens) or more");
  allow(between(c.top_p, 0, 1), "top_p", c.top_p, "0 to 1");
  allow(between(c.min_p, 0, 1), "min_p", c.min_p, "0 to 1");
  allow(c.typical_p > 0 && c.typical_p <= 1, "typical_p", c.typical_p, "above 0, to 1");
  allow(c.epsilon_cutoff >= 0 && c.epsilon_cutoff < 1, "epsilon_cutoff", c.epsilon_cutoff, "0 to below 1");
  allow(c.eta_cutoff >= 0 && c.eta_cutoff < 1, "eta_cutoff", c.eta_cutoff, "0 to below 1");
  allow(c.num_return_sequences >= 1, "num_return_sequences", c.num_return_sequences, "1 or more");

  allow(finite(c.repetition_penalty) && c.repetition_penalty > 0, "repetition_penalty", c.repetition_penalty, "above 0 (1 changes nothing)");
  allow(finite(c.encoder_repetition_penalty) && c.encoder_repetition_penalty > 0, "encoder_repetition_penalty", c.encoder_repetition_penalty,
        "above 0 (1 changes nothing)");
  allow(c.no_repeat_ngram_size >= 0, "no_repeat_ngram_size", c.no_repeat_ngram_size, "0 (off) or more");
  allow(c.encoder_no_repeat_ngram_size >= 0, "encoder_no_repeat_ngram_size", c.encoder_no_repeat_ngram_size, "0 (off) or more");
  allow(between(c.frequency_penalty, -2, 2), "frequency_penalty", c.frequency_penalty, "-2 to 2");
  allow(between(c.presence_penalty, -2, 2), "presence_penalty", c.presence_penalty, "-2 to 2");

  allow(c.num_beams >= 1, "num_beams", c.num_beams, "1 or more");
  allow(finite(c.length_penalty), "length_penalty", c.length_penalty, "a finite number");
  allow(c.num_beam_groups >= 1, "num_beam_groups", c.num_beam_groups, "1 or more");
  allow(finite(c.diversity_penalty) && c.diversity_penalty >= 0, "diversity_penalty", c.diversity_penalty, "0 or more");
  if (c.num_beams % c.num_beam_groups != 0)
    throw ConfigError("generate", fmt::format("num_beam_groups = {}; allowed: a divisor of num_beams, which is {}", c.num_beam_groups, c.num_beams));
  if (c.num_beam_groups > 1 && samples(c))
    throw ConfigError("generate",
                      fmt::format("num_beam_groups = {} together with sampling; groups choose the likeliest tokens: do_sample = false", c.num_beam_groups));
  if (c.diversity_penalty > 0 && c.num_beam_groups == 1)
    throw ConfigError("generate", fmt::format("diversity_penalty = {} is between groups of beams; give num_beam_groups, 2 or more", c.diversity_penalty));

  allow(between(c.penalty_alpha, 0, 1), "penalty_alpha", c.penalty_alpha, "0 to 1");
  if (c.penalty_alpha > 0) {
    if (samples(c) || c.num_beams > 1)
      throw ConfigError("generate", fmt::format("penalty_alpha = {} (contrastive search) together with {}; allowed: one of them", c.penalty_alpha,
                                                c.num_beams > 1 ? "beams" : "sampling"));
    if (c.top_k < 2) throw ConfigError("generate", fmt::format("top_k = {} with penalty_alpha; contrastive search chooses among 2 or more", c.top_k));
  }
  allow(c.prompt_lookup_num_tokens >= 0, "prompt_lookup_num_tokens", c.prompt_lookup_num_tokens, "0 (off) or more");
  allow(c.max_matching_ngram_size >= 1, "max_matching_ngram_size", c.max_matching_ngram_size, "1 or more");
  allow(c.num_assistant_tokens >= 1, "num_assistant_tokens", c.num_assistant_tokens, "1 or more");
  allow(between(c.assistant_confidence_threshold, 0, 1), "assistant_confidence_threshold", c.assistant_confidence_threshold, "0 to 1");
  if (c.prompt_lookup_num_tokens > 0 && (c.num_beams > 1 || c.penalty_alpha > 0))
    throw NotSupported("generate", fmt::format("prompt_lookup_num_tokens = {} together with {}; it goes with greedy decoding and sampling",
                                               c.prompt_lookup_num_tokens, c.num_beams > 1 ? "num_beams" : "penalty_alpha"));

  if (c.num_beams > 1) {
    if (c.num_return_sequences > c.num_beams)
      throw ConfigError("generate", fmt::format("num_return_sequences = {}; allowed: at most num_beams, which is {}", c.num_return_sequences, c.num_beams));
  } else if (c.num_return_sequences > 1 && !samples(c)) {
    throw ConfigError("generate", fmt::format("num_return_sequences = {} with greedy decoding, which has one answer; give a temperature, or num_beams",
                                              c.num_return_sequences));
  }

  for (const auto& word : c.bad_words_ids) {
    if (word.empty()) throw ConfigError("generate", "bad_words_ids has an empty sequence; each needs at least one token");
    detail::allow_ids("bad_words_ids", word);
  }
  for (const auto& [sequence, bias] : c.sequence_bias) {
    if (sequence.empty()) throw ConfigError("generate", "sequence_bias has an empty sequence; each needs at least one token");
    detail::allow_ids("sequence_bias", sequence);
    allow(!std::isnan(bias), "sequence_bias", bias, "a number");
  }
  detail::allow_ids("suppress_tokens", c.suppress_tokens);
  detail::allow_ids("begin_suppress_tokens", c.begin_suppress_tokens);
  if (c.decoder_start_token_id) detail::allow_ids("decoder_start_token_id", {*c.decoder_start_token_id});
  if (c.forced_bos_token_id) detail::allow_ids("forced_bos_token_id", {*c.forced_bos_token_id});
  detail::allow_ids("forced_eos_token_id", c.forced_eos_token_id);
  if (c.eos_token_ids) detail::allow_ids("eos_token_ids", *c.eos_token_ids);
  if (c.exponential_decay_length_penalty) {
    allow(c.exponential_decay_length_penalty->first >= 0, "exponential_decay_length_penalty's start", c.exponential_decay_length_penalty->first, "0 or more");
    allow(finite(c.exponential_decay_length_penalty->second) && c.exponential_decay_length_penalty->second > 0, "exponential_decay_length_penalty's factor",
          c.exponential_decay_length_penalty->second, "above 0");
  }
  for (const std::string& s : c.stop)
    if (s.empty()) throw ConfigError("generate", "stop has an empty string; it would end every text at once");
  if (c.prompt_template != "auto" && c.prompt_template != "chat" && c.prompt_template != "plain") {
    const std::vector<std::string> known = {"auto", "chat", "plain"};
    throw ConfigError("generate", fmt::format("prompt_template = \"{}\"{}", c.prompt_template, did_you_mean(c.prompt_template, known, "Allowed")));
  }
  allow(c.top_logprobs >= 0, "top_logprobs", c.top_logprobs, "0 or more");
  if (c.num_beams > 1 && (c.output_logprobs || c.top_logprobs > 0))
    throw NotSupported("generate", "output_logprobs with beams, whose result is a score of the whole text");
  allow(c.batch_size >= 1, "batch_size", c.batch_size, "1 or more");
}

}  // namespace peft
