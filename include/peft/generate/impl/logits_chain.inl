// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/core/error.hpp"
#include "peft/generate/constraint.hpp"
#include "peft/generate/impl/logits_processor.inl"
#include "peft/io/json.hpp"

namespace peft {

PEFT_INLINE LogitsProcessors::LogitsProcessors(const GenerationConfig& config, std::vector<std::int32_t> eos_token_ids)
    : config_(config), eos_(std::move(eos_token_ids)) {
  const GenerationConfig& c = config_;
  sampling_ = samples(c);
  keep_ = c.num_beams > 1 ? std::max<std::int64_t>(std::int64_t(eos_.size()) + 1, 2) : 1;
  changes_ = !c.sequence_bias.empty() || c.repetition_penalty != 1 || c.encoder_repetition_penalty != 1 || c.no_repeat_ngram_size > 0 ||
             c.encoder_no_repeat_ngram_size > 0 || !c.bad_words_ids.empty() || c.min_length > 0 || c.min_new_tokens > 0 || c.prefix_allowed_tokens_fn ||
             c.forced_bos_token_id || !c.forced_eos_token_id.empty() || c.exponential_decay_length_penalty || !c.suppress_tokens.empty() ||
             !c.begin_suppress_tokens.empty() || c.frequency_penalty != 0 || c.presence_penalty != 0 || c.constraint;
}

PEFT_INLINE std::vector<std::int32_t> LogitsProcessors::allowed(std::size_t prompt, std::span<const std::int32_t> ids) const {
  std::vector<std::int32_t> tokens = config_.prefix_allowed_tokens_fn(prompt, ids);
  if (tokens.empty())
    throw ConfigError("generate", "prefix_allowed_tokens_fn allows no token behind " + std::to_string(ids.size()) + " tokens of prompt " +
                                      std::to_string(prompt) + "; to end the text, allow eos");
  return tokens;
}

template <Scalar T>
void LogitsProcessors::change(std::span<T> row, const LogitsContext& context) const {
  const GenerationConfig& c = config_;
  const std::span<const std::int32_t> ids = context.ids, source = context.source;
  const std::int64_t length = std::int64_t(ids.size()), made = length - context.prompt_length;
  for (const auto& [sequence, bias] : c.sequence_bias) logits::sequence_bias<T>(row, ids, sequence, bias);
  if (c.encoder_repetition_penalty != 1) logits::repetition_penalty<T>(row, source, 1 / c.encoder_repetition_penalty);
  if (c.repetition_penalty != 1) logits::repetition_penalty<T>(row, ids, c.repetition_penalty);
  if (c.no_repeat_ngram_size > 0) logits::no_repeat_ngram<T>(row, ids, c.no_repeat_ngram_size);
  if (c.encoder_no_repeat_ngram_size > 0) logits::encoder_no_repeat_ngram<T>(row, ids, source, c.encoder_no_repeat_ngram_size);
  for (const auto& word : c.bad_words_ids) {
    // A word that is eos alone is no bad word: nothing could end then.
    if (word.size() == 1 && std::find(eos_.begin(), eos_.end(), word[0]) != eos_.end()) continue;
    logits::sequence_bias<T>(row, ids, word, double(detail::removed<T>));
  }
  if (length < c.min_length || made < c.min_new_tokens) logits::suppress<T>(row, eos_);
  if (context.allowed) logits::allow_only<T>(row, *context.allowed);
  if (c.forced_bos_token_id && length == 1) logits::force<T>(row, std::span(&*c.forced_bos_token_id, 1));
  if (!c.forced_eos_token_id.empty() && made + 1 == max_new_tokens(c, context.prompt_length)) logits::force<T>(row, c.forced_eos_token_id);
  if (c.exponential_decay_length_penalty)
    logits::exponential_decay_length_penalty<T>(row, eos_, made - c.exponential_decay_length_penalty->first, c.exponential_decay_length_penalty->second);
  logits::suppress<T>(row, c.suppress_tokens);
  // A token that is forced behind the first one is not yet the answer's.
  const std::int64_t first = c.forced_bos_token_id && context.prompt_length == 1 ? 1 : 0;
  if (made == first) logits::suppress<T>(row, c.begin_suppress_tokens);
  if (c.frequency_penalty != 0 || c.presence_penalty != 0)
    logits::frequency_presence_penalty<T>(row, ids.subspan(std::size_t(context.prompt_length)), c.frequency_penalty, c.presence_penalty);
  if (c.constraint) c.constraint->mask<T>(row, context.constraint_state, context.limit - made, eos_);
}

template <Scalar T>
void LogitsProcessors::filter(std::span<T> row) const {
  const GenerationConfig& c = config_;
  if (c.temperature.value_or(1) != 1) logits::temperature<T>(row, *c.temperature);
  if (c.top_k > 0) logits::top_k<T>(row, c.top_k, keep_);
  if (c.top_p < 1) logits::top_p<T>(row, c.top_p, keep_);
  if (c.min_p > 0) logits::min_p<T>(row, c.min_p, keep_);
  if (c.typical_p < 1) logits::typical_p<T>(row, c.typical_p, keep_);
  if (c.epsilon_cutoff > 0) logits::epsilon_cutoff<T>(row, c.epsilon_cutoff, keep_);
  if (c.eta_cutoff > 0) logits::eta_cutoff<T>(row, c.eta_cutoff, keep_);
}

template <Scalar T>
void LogitsProcessors::operator()(std::span<T> row, const LogitsContext& context) const {
  if (changes_) change<T>(row, context);
  if (sampling_) filter<T>(row);
}

namespace detail {

/// The arguments of one processor: by name, or its first one alone.
class ProcessorSettings {
 public:
  ProcessorSettings(std::string_view processor, const Json& settings, std::optional<double> first)
      : processor_(processor), settings_(settings), first_(first) {}
  bool has(const char* key) const { return settings_.contains(key); }
  double number(const char* key) const { return first_ ? *first_ : need(key).number(); }
  std::int64_t integer(const char* key) const { return first_ ? std::int64_t(*first_) : need(key).integer(); }
  std::int64_t integer(const char* key, std::int64_t otherwise) const { return first_ || !settings_.contains(key) ? otherwise : settings_.at(key).integer(); }
  /// One id or a list of them.
  std::vector<std::int32_t> ids(const char* key) const {
    const Json& value = need(key);
    return value.is_array() ? list(value) : std::vector<std::int32_t>{std::int32_t(value.integer())};
  }
  std::vector<std::int32_t> ids_or_none(const char* key) const {
    const Json* value = settings_.get(key);
    return value && !value->is_null() ? ids(key) : std::vector<std::int32_t>{};
  }
  static std::vector<std::int32_t> list(const Json& value) {
    std::vector<std::int32_t> all;
    for (const Json& id : value.array()) all.push_back(std::int32_t(id.integer()));
    return all;
  }
  const Json& need(const char* key) const {
    if (const Json* value = settings_.get(key)) return *value;
    throw ConfigError("process_logits", std::string(processor_) + " needs the setting \"" + key + "\"");
  }

 private:
  std::string_view processor_;
  const Json& settings_;
  std::optional<double> first_;
};

template <Scalar T>
struct NamedProcessor {
  const char* name;
  void (*run)(const ProcessorSettings&, std::span<const std::int32_t> ids, std::span<T> row);
};

template <Scalar T>
std::span<const NamedProcessor<T>> named_processors() {
  using S = const ProcessorSettings&;
  using Ids = std::span<const std::int32_t>;
  using Row = std::span<T>;
  static constexpr auto keep = [](S s) { return s.integer("min_tokens_to_keep", 1); };
  static const NamedProcessor<T> all[] = {
      {"TemperatureLogitsWarper", [](S s, Ids, Row row) { logits::temperature<T>(row, s.number("temperature")); }},
      {"TopKLogitsWarper", [](S s, Ids, Row row) { logits::top_k<T>(row, s.integer("top_k"), keep(s)); }},
      {"TopPLogitsWarper", [](S s, Ids, Row row) { logits::top_p<T>(row, s.number("top_p"), keep(s)); }},
      {"MinPLogitsWarper", [](S s, Ids, Row row) { logits::min_p<T>(row, s.number("min_p"), keep(s)); }},
      {"TypicalLogitsWarper", [](S s, Ids, Row row) { logits::typical_p<T>(row, s.number(s.has("typical_p") ? "typical_p" : "mass"), keep(s)); }},
      {"EpsilonLogitsWarper", [](S s, Ids, Row row) { logits::epsilon_cutoff<T>(row, s.number("epsilon"), keep(s)); }},
      {"EtaLogitsWarper", [](S s, Ids, Row row) { logits::eta_cutoff<T>(row, s.number("epsilon"), keep(s)); }},
      {"RepetitionPenaltyLogitsProcessor",
       [](S s, Ids ids, Row row) {
         const auto skip = std::size_t(s.integer("prompt_ignore_length", 0));
         logits::repetition_penalty<T>(row, ids.subspan(std::min(skip, ids.size())), s.number("penalty"));
       }},
      {"EncoderRepetitionPenaltyLogitsProcessor",
       [](S s, Ids, Row row) {
         logits::repetition_penalty<T>(row, s.ids("encoder_input_ids"), 1 / s.number(s.has("penalty") ? "penalty" : "hallucination_penalty"));
       }},
      {"NoRepeatNGramLogitsProcessor", [](S s, Ids ids, Row row) { logits::no_repeat_ngram<T>(row, ids, s.integer("ngram_size")); }},
      {"EncoderNoRepeatNGramLogitsProcessor",
       [](S s, Ids ids, Row row) {
         logits::encoder_no_repeat_ngram<T>(row, ids, s.ids("encoder_input_ids"), s.integer(s.has("ngram_size") ? "ngram_size" : "encoder_ngram_size"));
       }},
      {"MinLengthLogitsProcessor",
       [](S s, Ids ids, Row row) {
         if (std::int64_t(ids.size()) < s.integer("min_length")) logits::suppress<T>(row, s.ids("eos_token_id"));
       }},
      {"MinNewTokensLengthLogitsProcessor",
       [](S s, Ids ids, Row row) {
         const std::int64_t prompt = s.integer(s.has("prompt_length_to_skip") ? "prompt_length_to_skip" : "prompt_length");
         if (std::int64_t(ids.size()) - prompt < s.integer("min_new_tokens")) logits::suppress<T>(row, s.ids("eos_token_id"));
       }},
      {"NoBadWordsLogitsProcessor",
       [](S s, Ids ids, Row row) {
         const auto eos = s.ids_or_none("eos_token_id");
         for (const Json& word : s.need("bad_words_ids").array()) {
           const auto tokens = ProcessorSettings::list(word);
           if (tokens.size() == 1 && std::find(eos.begin(), eos.end(), tokens[0]) != eos.end()) continue;
           logits::sequence_bias<T>(row, ids, tokens, double(removed<T>));
         }
       }},
      {"SequenceBiasLogitsProcessor",
       [](S s, Ids ids, Row row) {
         for (const Json& entry : s.need("sequence_bias").array())
           logits::sequence_bias<T>(row, ids, ProcessorSettings::list(entry.array().at(0)), entry.array().at(1).number());
       }},
      {"ForcedBOSTokenLogitsProcessor",
       [](S s, Ids ids, Row row) {
         if (ids.size() == 1) logits::force<T>(row, s.ids("bos_token_id"));
       }},
      {"ForcedEOSTokenLogitsProcessor",
       [](S s, Ids ids, Row row) {
         if (std::int64_t(ids.size()) == s.integer("max_length") - 1) logits::force<T>(row, s.ids("eos_token_id"));
       }},
      {"SuppressTokensLogitsProcessor", [](S s, Ids, Row row) { logits::suppress<T>(row, s.ids("suppress_tokens")); }},
      {"SuppressTokensAtBeginLogitsProcessor",
       [](S s, Ids ids, Row row) {
         if (std::int64_t(ids.size()) == s.integer("begin_index")) logits::suppress<T>(row, s.ids("begin_suppress_tokens"));
       }},
      {"ExponentialDecayLengthPenalty",
       [](S s, Ids ids, Row row) {
         const auto& decay = s.need("exponential_decay_length_penalty").array();
         const std::int64_t start = decay.at(0).integer() + s.integer("input_ids_seq_length", 0);
         logits::exponential_decay_length_penalty<T>(row, s.ids("eos_token_id"), std::int64_t(ids.size()) - start, decay.at(1).number());
       }},
      {"LogitNormalization", [](S, Ids, Row row) { logits::log_softmax<T>(row); }},
      {"FrequencyPresencePenalty",
       [](S s, Ids ids, Row row) { logits::frequency_presence_penalty<T>(row, ids, s.number("frequency_penalty"), s.number("presence_penalty")); }},
  };
  return all;
}

}  // namespace detail

template <Scalar T>
void process_logits(std::string_view processor, const Json& settings, std::span<const std::int32_t> ids, std::span<T> row) {
  const auto known = detail::named_processors<T>();
  while (!processor.empty()) {
    std::string_view name = processor.substr(0, processor.find(", "));
    processor.remove_prefix(std::min(processor.size(), name.size() + 2));
    std::optional<double> first;
    if (const std::size_t open = name.find('('); open != std::string_view::npos) {
      first = Json::parse(name.substr(open + 1, name.rfind(')') - open - 1), "process_logits").number();
      name = name.substr(0, open);
    }
    const auto found = std::find_if(known.begin(), known.end(), [&](const auto& p) { return name == p.name; });
    if (found == known.end()) {
      std::vector<std::string> names;
      for (const auto& p : known) names.emplace_back(p.name);
      throw ConfigError("process_logits", "no processor is named \"" + std::string(name) + "\"" + did_you_mean(name, names, "Processors here", 32));
    }
    found->run(detail::ProcessorSettings(name, settings, first), ids, row);
  }
}

}  // namespace peft
