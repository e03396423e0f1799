// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "peft/core/config.hpp"

namespace peft {

/// When a beam search is over. no: once the best running beam cannot beat the worst finished one at its present length. yes: as soon as
/// num_beams are finished. never: only if it cannot win at any length.
enum class EarlyStopping { no, yes, never };

/// How text is generated. Names are Hugging Face's; the defaults change nothing: greedy decoding, no penalty.
///
/// Sampling happens if `do_sample` says so, or, where it says nothing, if a temperature above 0 is given (or top_k, top_p, … without a
/// temperature, which is 1 then). A temperature of 0 is greedy.
struct GenerationConfig {
  // Length, in tokens. max_tokens is another name for max_new_tokens; neither: 256.
  std::optional<std::int64_t> max_new_tokens = {};
  std::optional<std::int64_t> max_tokens = {};
  std::int64_t min_new_tokens = 0;  // no eos before
  std::int64_t min_length = 0;      // the same, the prompt included

  // Choice of the next token, applied in this order.
  std::optional<bool> do_sample = {};
  std::optional<double> temperature = {};
  std::int64_t top_k = 0;     // 0: all
  double top_p = 1;           // nucleus (Holtzman et al. 2019, arXiv:1904.09751)
  double min_p = 0;           // tokens with p < min_p · max p are out (arXiv:2407.01082)
  double typical_p = 1;       // locally typical (Meister et al. 2022, arXiv:2202.00666)
  double epsilon_cutoff = 0;  // tokens with p < ε are out (Hewitt et al. 2022, arXiv:2210.15191)
  double eta_cutoff = 0;      // tokens with p < min(ε, √ε e^−H) are out (the same paper)
  std::uint64_t seed = 0;     // the same seed gives the same text, whatever is generated beside it and on however many threads
  std::int64_t num_return_sequences = 1;

  // Repetition.
  double repetition_penalty = 1;  // logits of tokens seen so far, prompt included: divided if positive, else multiplied (Keskar et al. 2019)
  std::int64_t no_repeat_ngram_size = 0;
  double frequency_penalty = 0;  // OpenAI's: logit − frequency · count − presence · (count > 0), of tokens generated so far
  double presence_penalty = 0;

  // Beam search.
  std::int64_t num_beams = 1;
  double length_penalty = 1;  // score = Σ log p / length^length_penalty
  EarlyStopping early_stopping = EarlyStopping::no;

  // Particular tokens.
  std::vector<std::vector<std::int32_t>> bad_words_ids = {};
  std::vector<std::pair<std::vector<std::int32_t>, double>> sequence_bias = {};  // added to the logit that would complete the sequence
  std::vector<std::int32_t> suppress_tokens = {};
  std::vector<std::int32_t> begin_suppress_tokens = {};                                  // for the first generated token
  std::optional<std::int32_t> forced_bos_token_id = {};                                  // where the prompt is a single token
  std::vector<std::int32_t> forced_eos_token_id = {};                                    // for the last token that max_new_tokens allows
  std::optional<std::pair<std::int64_t, double>> exponential_decay_length_penalty = {};  // (start, factor): eos grows likelier behind `start` tokens

  // The end. eos_token_ids: nothing given means the model's and the tokenizer's; an empty list means that no token ends the text.
  std::optional<std::vector<std::int32_t>> eos_token_ids = {};
  std::vector<std::string> stop = {};  // the text is cut before the first of these

  // Prompts that are text. "chat": a user's message, written as the tokenizer's chat template has it; "plain": as it is;
  // "auto": chat if the tokenizer has a template, as load_dataset does; one that is not known is an error.
  std::string prompt_template = "auto";
  std::string system_prompt = {};  // chat only

  bool echo = false;             // the prompt's text in front of the answer
  bool output_logprobs = false;  // Generation::logprobs
  bool half_cache = false;       // keys and values of the past as F16: half the memory, and numbers rounded to 11 bits
  std::int64_t batch_size = 16;  // sequences decoded together: speed and memory, never the result
};

/// Throws ConfigError naming the field, its value and what is allowed.
void validate(const GenerationConfig& config);

/// max_new_tokens, max_tokens, or 256.
std::int64_t max_new_tokens(const GenerationConfig& config);
/// True if tokens are drawn; false for greedy decoding and beam search.
bool samples(const GenerationConfig& config);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/config.inl"
#endif
