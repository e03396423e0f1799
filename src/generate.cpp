// SPDX-License-Identifier: Apache-2.0
#include "peft/generate/impl/beam_search.inl"
#include "peft/generate/impl/completion.inl"
#include "peft/generate/impl/completion_json.inl"
#include "peft/generate/impl/config.inl"
#include "peft/generate/impl/config_json.inl"
#include "peft/generate/impl/constraint.inl"
#include "peft/generate/impl/draft.inl"
#include "peft/generate/impl/json_schema.inl"
#include "peft/generate/impl/language_model.inl"
#include "peft/generate/impl/logits_chain.inl"
#include "peft/generate/impl/logits_processor.inl"
#include "peft/generate/impl/prompt_cache.inl"
#include "peft/generate/impl/sampler.inl"
#include "peft/generate/impl/scoring.inl"
#include "peft/generate/impl/stopping.inl"
#include "peft/generate/impl/text_generation.inl"

namespace peft {

#define PEFT_INSTANTIATE(T)                                                                                                                                    \
  template void logits::repetition_penalty<T>(std::span<T>, std::span<const std::int32_t>, double);                                                            \
  template void logits::frequency_presence_penalty<T>(std::span<T>, std::span<const std::int32_t>, double, double);                                            \
  template void logits::no_repeat_ngram<T>(std::span<T>, std::span<const std::int32_t>, std::int64_t);                                                         \
  template void logits::sequence_bias<T>(std::span<T>, std::span<const std::int32_t>, std::span<const std::int32_t>, double);                                  \
  template void logits::encoder_no_repeat_ngram<T>(std::span<T>, std::span<const std::int32_t>, std::span<const std::int32_t>, std::int64_t);                  \
  template void logits::allow_only<T>(std::span<T>, std::span<const std::int32_t>);                                                                            \
  template void TokenConstraint::mask<T>(std::span<T>, State, std::int64_t, std::span<const std::int32_t>) const;                                              \
  template void logits::suppress<T>(std::span<T>, std::span<const std::int32_t>);                                                                              \
  template void logits::force<T>(std::span<T>, std::span<const std::int32_t>);                                                                                 \
  template void logits::exponential_decay_length_penalty<T>(std::span<T>, std::span<const std::int32_t>, std::int64_t, double);                                \
  template void logits::temperature<T>(std::span<T>, double);                                                                                                  \
  template void logits::top_k<T>(std::span<T>, std::int64_t, std::int64_t);                                                                                    \
  template void logits::top_p<T>(std::span<T>, double, std::int64_t);                                                                                          \
  template void logits::min_p<T>(std::span<T>, double, std::int64_t);                                                                                          \
  template void logits::typical_p<T>(std::span<T>, double, std::int64_t);                                                                                      \
  template void logits::epsilon_cutoff<T>(std::span<T>, double, std::int64_t);                                                                                 \
  template void logits::eta_cutoff<T>(std::span<T>, double, std::int64_t);                                                                                     \
  template double logits::log_softmax<T>(std::span<T>);                                                                                                        \
  template void LogitsProcessors::operator()<T>(std::span<T>, const LogitsContext&) const;                                                                     \
  template void process_logits<T>(std::string_view, const Json&, std::span<const std::int32_t>, std::span<T>);                                                 \
  template std::int32_t argmax<T>(std::span<const T>);                                                                                                         \
  template std::int32_t sample<T>(std::span<const T>, double);                                                                                                 \
  template double log_probability<T>(std::span<const T>, std::int32_t);                                                                                        \
  template bool BeamSearch::advance<T>(View<const T>, const SequenceRandom*, const Ends&);                                                                     \
  template class LanguageModel<T>;                                                                                                                             \
  template std::vector<Generation> run_generation<T>(LanguageModel<T>&, std::span<const GenerationRequest<T>>, const GenerationConfig&, const Tokenizer*,      \
                                                     LanguageModel<T>*);                                                                                       \
  template std::vector<std::pair<std::int32_t, double>> top_log_probabilities<T>(std::span<const T>, std::int64_t);                                            \
  template PromptLogprobs prompt_logprobs<T>(LanguageModel<T>&, std::span<const std::int32_t>, std::int64_t, int);                                             \
  template Perplexity token_perplexity<T>(LanguageModel<T>&, std::span<const std::int32_t>, const PerplexityOptions&);                                         \
  template CompletionResponse run_completion<T>(LanguageModel<T>&, const Tokenizer&, const CompletionRequest&, const std::string&, const CompletionCallback&); \
  template PromptCache<T> remember_prompt<T>(LanguageModel<T>&, std::span<const std::int32_t>, int, bool);                                                     \
  template void save_prompt_cache<T>(const std::string&, const PromptCache<T>&);                                                                               \
  template PromptCache<T> load_prompt_cache<T>(LanguageModel<T>&, const std::string&, int);                                                                    \
  template std::vector<ContinuationScore> score_continuations<T>(LanguageModel<T>&, std::span<const std::int32_t>, std::span<const std::vector<std::int32_t>>, \
                                                                 int);
PEFT_INSTANTIATE(float)
PEFT_INSTANTIATE(double)
#undef PEFT_INSTANTIATE

}  // namespace peft
