// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "peft/core/config.hpp"

namespace peft {

class Json;
class TokenConstraint;

/// The tokens that may follow `ids` (the prompt included), the sequence being an answer to prompt number `prompt`: Hugging Face's
/// prefix_allowed_tokens_fn. Called by one thread at a time.
using AllowedTokens = std::function<std::vector<std::int32_t>(std::size_t prompt, std::span<const std::int32_t> ids)>;

/// When a beam search is over. no: once the best running beam cannot beat the worst finished one at its present length. yes: as soon as
/// num_beams are finished. never: only if it cannot win at any length.
enum class EarlyStopping { no, yes, never };

/// How text is generated. Names are Hugging Face's; the defaults change nothing: greedy decoding, no penalty.
///
/// Sampling happens if `do_sample` says so, or, where it says nothing, if a temperature above 0 is given (or top_k, top_p, … without a
/// temperature, which is 1 then). A temperature of 0 is greedy.
///
/// Of an encoder-decoder, the prompt of lengths and of the sequence so far is the token that decoding starts with; that of encoder_… is the source.
struct GenerationConfig {
  // Length, in tokens. max_tokens is another name for max_new_tokens; neither: 256.
  std::optional<std::int64_t> max_new_tokens = {};
  std::optional<std::int64_t> max_tokens = {};
  std::optional<std::int64_t> max_length = {};  // the same, the prompt included; counts where neither of the two is given
  std::int64_t min_new_tokens = 0;              // no eos before
  std::int64_t min_length = 0;                  // the same, the prompt included
  std::optional<double> max_time = {};          // seconds; what there is by then is the answer

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
  double repetition_penalty = 1;          // logits of tokens seen so far, prompt included: divided if positive, else multiplied (Keskar et al. 2019)
  double encoder_repetition_penalty = 1;  // logits of the prompt's tokens: multiplied if positive, else divided, so that above 1 the answer keeps to its words
  std::int64_t no_repeat_ngram_size = 0;
  std::int64_t encoder_no_repeat_ngram_size = 0;  // no n-gram of the prompt
  double frequency_penalty = 0;                   // OpenAI's: logit − frequency · count − presence · (count > 0), of tokens generated so far
  double presence_penalty = 0;

  // Beam search; with do_sample = true, continuations are drawn without replacement by their scores.
  std::int64_t num_beams = 1;
  std::int64_t num_beam_groups = 1;  // diverse beam search (Vijayakumar et al. 2016, arXiv:1610.02424): groups choose one after the other, and
  double diversity_penalty = 0;      // log p of a token falls by this for each time that earlier groups chose it in the same step
  double length_penalty = 1;         // score = Σ log p / length^length_penalty
  EarlyStopping early_stopping = EarlyStopping::no;

  // Contrastive search (Su et al. 2022, arXiv:2202.06417): of the top_k tokens, the one with the largest (1 − α) p − α · the largest cosine of
  // its hidden state with those before it.
  double penalty_alpha = 0;

  // Assisted decoding (Leviathan et al. 2022, arXiv:2211.17192): tokens that a draft model or the sequence itself proposes are checked in one
  // forward. The text is the same as without.
  std::int64_t prompt_lookup_num_tokens = 0;    // > 0: propose so many tokens that followed the same n-gram earlier in the sequence
  std::int64_t max_matching_ngram_size = 2;     // the longest such n-gram looked for
  std::int64_t num_assistant_tokens = 20;       // of a draft model,
  double assistant_confidence_threshold = 0.4;  // which proposes no more behind a token that it finds less likely than this

  // Particular tokens.
  std::vector<std::vector<std::int32_t>> bad_words_ids = {};
  std::vector<std::pair<std::vector<std::int32_t>, double>> sequence_bias = {};  // added to the logit that would complete the sequence
  std::vector<std::int32_t> suppress_tokens = {};
  std::vector<std::int32_t> begin_suppress_tokens = {};                                  // for the first generated token that is not forced
  std::optional<std::int32_t> decoder_start_token_id = {};                               // what an encoder-decoder's answer follows; none: the model's
  std::optional<std::int32_t> forced_bos_token_id = {};                                  // where the prompt is a single token, as an encoder-decoder's start is
  std::vector<std::int32_t> forced_eos_token_id = {};                                    // for the last token that max_new_tokens allows
  std::optional<std::pair<std::int64_t, double>> exponential_decay_length_penalty = {};  // (start, factor): eos grows likelier behind `start` tokens
  AllowedTokens prefix_allowed_tokens_fn = {};
  std::shared_ptr<const TokenConstraint> constraint = {};  // what the text must match: constrain_to_regex, constrain_to_json_schema

  // The end. eos_token_ids: nothing given means the model's and the tokenizer's; an empty list means that no token ends the text.
  std::optional<std::vector<std::int32_t>> eos_token_ids = {};
  std::vector<std::string> stop = {};  // the text is cut before the first of these

  // Prompts that are text. "chat": a user's message, written as the tokenizer's chat template has it; "plain": as it is;
  // "auto": chat if the tokenizer has a template, as load_dataset does; one that is not known is an error.
  std::string prompt_template = "auto";
  std::string system_prompt = {};  // chat only

  bool echo = false;              // the prompt's text in front of the answer
  bool output_logprobs = false;   // Generation::logprobs
  std::int64_t top_logprobs = 0;  // Generation::top_logprobs: of so many likeliest tokens a step
  bool half_cache = false;        // keys and values of the past as F16: half the memory, and numbers rounded to 11 bits
  std::int64_t batch_size = 16;   // sequences decoded together: speed and memory, never the result
};

/// Throws ConfigError naming the field, its value and what is allowed.
void validate(const GenerationConfig& config);

/// The settings of a JSON object by Hugging Face's names, on top of `base`. Keys that say nothing about the text (use_cache, transformers_version, …)
/// are passed over; NotSupported for what would change it and is not built, ConfigError for other names, with the nearest one, and for wrong types.
GenerationConfig generation_config(const Json& json, GenerationConfig base = {});
/// The generation_config.json of a model's directory, on top of `base`; `base` itself if there is none.
GenerationConfig load_generation_config(const std::string& model, GenerationConfig base = {});

/// max_new_tokens, max_tokens, or 256.
std::int64_t max_new_tokens(const GenerationConfig& config);
/// The same behind a prompt of this length: max_length counts, too.
std::int64_t max_new_tokens(const GenerationConfig& config, std::int64_t prompt_length);
/// True if tokens are drawn; false for greedy decoding and beam search.
bool samples(const GenerationConfig& config);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/config.inl"
#include "peft/generate/impl/config_json.inl"
#endif
