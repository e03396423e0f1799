// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "peft/core/error.hpp"
#include "peft/generate/config.hpp"
#include "peft/io/json.hpp"

namespace peft {

namespace detail {

inline std::int32_t token_id(const Json& value) {
  const std::int64_t id = value.integer();
  if (id < 0 || id > INT32_MAX) throw ConfigError("generate", fmt::format("the token id {}; allowed: 0 to {}", id, INT32_MAX));
  return std::int32_t(id);
}
/// One id, or a list of them.
inline std::vector<std::int32_t> token_id_list(const Json& value) {
  std::vector<std::int32_t> ids;
  if (!value.is_array()) return {token_id(value)};
  for (const Json& id : value.array()) ids.push_back(token_id(id));
  return ids;
}

/// How one key of a generation_config.json becomes a setting.
struct GenerationKey {
  const char* name;
  void (*take)(const Json& value, GenerationConfig& c);
};

inline std::span<const GenerationKey> generation_keys() {
  using J = const Json&;
  using C = GenerationConfig&;
  static const GenerationKey keys[] = {
      {"max_new_tokens", [](J v, C c) { c.max_new_tokens = v.integer(); }},
      {"max_tokens", [](J v, C c) { c.max_tokens = v.integer(); }},
      {"max_length", [](J v, C c) { c.max_length = v.integer(); }},
      {"min_new_tokens", [](J v, C c) { c.min_new_tokens = v.integer(); }},
      {"min_length", [](J v, C c) { c.min_length = v.integer(); }},
      {"max_time", [](J v, C c) { c.max_time = v.number(); }},
      {"do_sample", [](J v, C c) { c.do_sample = v.boolean(); }},
      {"temperature", [](J v, C c) { c.temperature = v.number(); }},
      {"top_k", [](J v, C c) { c.top_k = v.integer(); }},
      {"top_p", [](J v, C c) { c.top_p = v.number(); }},
      {"min_p", [](J v, C c) { c.min_p = v.number(); }},
      {"typical_p", [](J v, C c) { c.typical_p = v.number(); }},
      {"epsilon_cutoff", [](J v, C c) { c.epsilon_cutoff = v.number(); }},
      {"eta_cutoff", [](J v, C c) { c.eta_cutoff = v.number(); }},
      {"seed",
       [](J v, C c) {
         if (v.integer() < 0) throw ConfigError("generate", fmt::format("seed = {}; allowed: 0 or more", v.integer()));
         c.seed = std::uint64_t(v.integer());
       }},
      {"num_return_sequences", [](J v, C c) { c.num_return_sequences = v.integer(); }},
      {"repetition_penalty", [](J v, C c) { c.repetition_penalty = v.number(); }},
      {"encoder_repetition_penalty", [](J v, C c) { c.encoder_repetition_penalty = v.number(); }},
      {"no_repeat_ngram_size", [](J v, C c) { c.no_repeat_ngram_size = v.integer(); }},
      {"encoder_no_repeat_ngram_size", [](J v, C c) { c.encoder_no_repeat_ngram_size = v.integer(); }},
      {"frequency_penalty", [](J v, C c) { c.frequency_penalty = v.number(); }},
      {"presence_penalty", [](J v, C c) { c.presence_penalty = v.number(); }},
      {"num_beams", [](J v, C c) { c.num_beams = v.integer(); }},
      {"num_beam_groups", [](J v, C c) { c.num_beam_groups = v.integer(); }},
      {"diversity_penalty", [](J v, C c) { c.diversity_penalty = v.number(); }},
      {"length_penalty", [](J v, C c) { c.length_penalty = v.number(); }},
      {"early_stopping",
       [](J v, C c) {
         if (v.is_string() && v.string() != "never") throw ConfigError("generate", "early_stopping = \"" + v.string() + "\"; allowed: true, false, \"never\"");
         c.early_stopping = v.is_string() ? EarlyStopping::never : v.boolean() ? EarlyStopping::yes : EarlyStopping::no;
       }},
      {"penalty_alpha", [](J v, C c) { c.penalty_alpha = v.number(); }},
      {"prompt_lookup_num_tokens", [](J v, C c) { c.prompt_lookup_num_tokens = v.integer(); }},
      {"max_matching_ngram_size", [](J v, C c) { c.max_matching_ngram_size = v.integer(); }},
      {"num_assistant_tokens", [](J v, C c) { c.num_assistant_tokens = v.integer(); }},
      {"assistant_confidence_threshold", [](J v, C c) { c.assistant_confidence_threshold = v.number(); }},
      {"bad_words_ids",
       [](J v, C c) {
         c.bad_words_ids.clear();
         for (const Json& word : v.array()) c.bad_words_ids.push_back(token_id_list(word));
       }},
      {"sequence_bias",
       [](J v, C c) {
         c.sequence_bias.clear();
         for (const Json& entry : v.array()) {
           if (!entry.is_array() || entry.size() != 2) throw ConfigError("generate", "sequence_bias wants pairs [[ids…], bias], here is " + entry.dump());
           c.sequence_bias.emplace_back(token_id_list(entry.array()[0]), entry.array()[1].number());
         }
       }},
      {"suppress_tokens", [](J v, C c) { c.suppress_tokens = token_id_list(v); }},
      {"begin_suppress_tokens", [](J v, C c) { c.begin_suppress_tokens = token_id_list(v); }},
      {"decoder_start_token_id", [](J v, C c) { c.decoder_start_token_id = token_id(v); }},
      {"forced_bos_token_id", [](J v, C c) { c.forced_bos_token_id = token_id(v); }},
      {"forced_eos_token_id", [](J v, C c) { c.forced_eos_token_id = token_id_list(v); }},
      {"exponential_decay_length_penalty",
       [](J v, C c) {
         if (!v.is_array() || v.size() != 2) throw ConfigError("generate", "exponential_decay_length_penalty wants [start, factor], here is " + v.dump());
         c.exponential_decay_length_penalty = {v.array()[0].integer(), v.array()[1].number()};
       }},
      {"eos_token_id", [](J v, C c) { c.eos_token_ids = token_id_list(v); }},
      {"stop_strings",
       [](J v, C c) {
         c.stop.clear();
         if (v.is_string())
           c.stop.push_back(v.string());
         else
           for (const Json& s : v.array()) c.stop.push_back(s.string());
       }},
      {"stop",
       [](J v, C c) {
         c.stop.clear();
         if (v.is_string())
           c.stop.push_back(v.string());
         else
           for (const Json& s : v.array()) c.stop.push_back(s.string());
       }},
  };
  return keys;
}

/// Of no consequence for the text, here at least: a log-softmax at the end changes no draw, rows that are broken are an error anyway.
inline constexpr const char* keys_without_effect[] = {"transformers_version",
                                                      "_from_model_config",
                                                      "_commit_hash",
                                                      "use_cache",
                                                      "cache_implementation",
                                                      "cache_config",
                                                      "max_cache_len",
                                                      "pad_token_id",
                                                      "bos_token_id",
                                                      "renormalize_logits",
                                                      "remove_invalid_values",
                                                      "output_attentions",
                                                      "output_hidden_states",
                                                      "output_scores",
                                                      "output_logits",
                                                      "return_dict_in_generate",
                                                      "is_assistant",
                                                      "num_assistant_tokens_schedule",
                                                      "compile_config",
                                                      "disable_compile",
                                                      "low_memory",
                                                      "prefill_chunk_size",
                                                      "chat_format",
                                                      "trust_remote_code",
                                                      "assistant_lookbehind",
                                                      "target_lookbehind",
                                                      "_name_or_path",
                                                      "return_legacy_cache",
                                                      "continuous_batching_config",
                                                      "max_window_size",
                                                      "language",
                                                      "task"};

/// What would change the text and is not built; `neutral` is the value that changes nothing.
struct UnbuiltKey {
  const char* name;
  double neutral;
};
inline constexpr UnbuiltKey unbuilt_keys[] = {{"guidance_scale", 1},  {"top_h", 1},
                                              {"token_healing", 0},   {"watermarking_config", 0},
                                              {"dola_layers", 0},     {"constraints", 0},
                                              {"force_words_ids", 0}, {"assistant_early_exit", 0},
                                              {"use_mtp", 0},         {"assistant_ensemble_weight", 0},
                                              {"speculation_type", 0}};

}  // namespace detail

PEFT_INLINE GenerationConfig generation_config(const Json& json, GenerationConfig base) {
  const auto keys = detail::generation_keys();
  for (const auto& [name, value] : json.object()) {
    if (value.is_null()) continue;
    const std::string& key = name;
    const auto known = std::find_if(keys.begin(), keys.end(), [&](const auto& k) { return key == k.name; });
    if (known != keys.end()) {
      try {
        known->take(value, base);
      } catch (const NotSupported&) {
        throw;
      } catch (const ConfigError& error) {
        if (std::string_view(error.what()).starts_with("[generate]")) throw;
        throw ConfigError("generate", key + ": " + error.what());
      }
      continue;
    }
    if (std::ranges::any_of(detail::keys_without_effect, [&](const char* k) { return key == k; })) continue;
    const auto unbuilt = std::ranges::find_if(detail::unbuilt_keys, [&](const auto& k) { return key == k.name; });
    if (unbuilt != std::end(detail::unbuilt_keys)) {
      const bool neutral = (value.is_number() && value.number() == unbuilt->neutral) || (value.is_boolean() && !value.boolean());
      if (!neutral) throw NotSupported("generate", key + " = " + value.dump() + " is not built; leave it out");
      continue;
    }
    std::vector<std::string> names;
    for (const auto& k : keys) names.emplace_back(k.name);
    throw ConfigError("generate", "\"" + key + "\" is no setting of generation" + did_you_mean(key, names, "Settings", 64));
  }
  validate(base);
  return base;
}

PEFT_INLINE GenerationConfig load_generation_config(const std::string& model, GenerationConfig base) {
  const auto path = std::filesystem::path(model) / "generation_config.json";
  if (!std::filesystem::exists(path)) return base;
  const Json json = Json::read(path.string());
  // transformers draws only where do_sample says so: what would be a setting of the draw is none otherwise. Ends of text are the model's already.
  const Json* draws = json.get("do_sample");
  const bool sampling = draws && draws->is_boolean() && draws->boolean();
  static constexpr const char* of_the_draw[] = {"do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"};
  Json kept = Json::make_object();
  for (const auto& [name, value] : json.object()) {
    const std::string& key = name;
    if (key == "eos_token_id" || (!sampling && std::ranges::any_of(of_the_draw, [&](const char* k) { return key == k; }))) continue;
    kept.set(key, value);
  }
  try {
    return generation_config(kept, std::move(base));
  } catch (const NotSupported& error) {
    throw NotSupported("generate", path.string() + ": " + error.what());
  } catch (const ConfigError& error) {
    throw ConfigError("generate", path.string() + ": " + error.what());
  }
}

}  // namespace peft
