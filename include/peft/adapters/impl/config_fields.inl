// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <regex>

#include "peft/adapters/config_fields.hpp"

namespace peft {

namespace detail {

PEFT_INLINE std::int64_t layer_index(std::string_view path, const std::vector<std::string>& patterns) {
  const auto number_after = [&](const std::string& expression) -> std::int64_t {
    std::match_results<std::string_view::const_iterator> found;
    try {
      if (!std::regex_search(path.begin(), path.end(), found, std::regex("^" + expression))) return -1;
    } catch (const std::regex_error& error) {
      throw ConfigError("layers_pattern", "\"" + expression + "\" is not a regular expression: " + error.what());
    }
    return std::stoll(found[1].str());
  };
  if (patterns.empty()) return number_after(R"(.*?\.[^.]*\.(\d{1,9})\.)");
  for (const std::string& pattern : patterns)
    if (const std::int64_t n = number_after(R"(.*?\.)" + pattern + R"(\.(\d{1,9})\.)"); n >= 0) return n;
  return -1;
}

PEFT_INLINE bool matches_end(std::string_view field, const std::string& pattern, std::string_view path) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
  if (!std::ranges::all_of(pattern, [&](char c) { return letter(c) || c == '.'; }) || !std::ranges::all_of(path, [&](char c) { return letter(c) || c == '.'; }))
    return full_match(field, R"((.*\.)?()" + pattern + ")", path);
  if (path.size() < pattern.size()) return false;
  const std::size_t before = path.size() - pattern.size();
  if (before > 0 && path[before - 1] != '.') return false;
  for (std::size_t i = 0; i < pattern.size(); i++)
    if (pattern[i] != '.' && pattern[i] != path[before + i]) return false;
  return true;
}

PEFT_INLINE void refuse(const char* config, const std::string& text) { throw ConfigError(config, text); }
PEFT_INLINE void check_rank(const char* config, const std::string& field, std::int64_t r) {
  if (r < 1) refuse(config, field + " is " + std::to_string(r) + "; a rank of at least 1 is wanted");
  if (r > 65536) refuse(config, field + " is " + std::to_string(r) + "; more than 65,536 is no low rank");
}
PEFT_INLINE void check_probability(const char* config, const char* field, double p) {
  if (!(p >= 0 && p < 1)) refuse(config, std::string(field) + " is " + std::to_string(p) + "; allowed is 0 ≤ p < 1");
}
PEFT_INLINE void check_choice(const char* config, const char* field, const std::string& value, const std::vector<std::string>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) == allowed.end())
    refuse(config, std::string(field) + " \"" + value + "\"" + did_you_mean(value, allowed, "allowed are"));
}
PEFT_INLINE void check_positive(const char* config, const char* field, std::int64_t value) {
  if (value < 1 || value > (std::int64_t{1} << 30)) refuse(config, std::string(field) + " is " + std::to_string(value) + "; at least 1 is wanted");
}
PEFT_INLINE void check_finite(const char* config, const char* field, double value) {
  if (!std::isfinite(value)) refuse(config, std::string(field) + " is not finite");
}
PEFT_INLINE void check_layers(const char* config, const TargetModules& target_modules, const std::vector<std::int64_t>& layers,
                              const std::vector<std::string>& layers_pattern) {
  if (!layers.empty() && !target_modules.empty() && !target_modules.is_list())
    refuse(config, "layers_to_transform goes with a list of target_modules, not with the pattern \"" + target_modules.pattern() + "\"");
  if (!layers_pattern.empty() && layers.empty()) refuse(config, "layers_pattern without layers_to_transform");
}

}  // namespace detail

PEFT_INLINE std::vector<std::string> default_targets(std::string_view method, std::string_view model_type) {
  struct Row {
    std::string_view method, types;
    std::vector<std::string> names;
  };
  // A method's own rows come first; `types` is a list with a space on either side of each.
  static const std::vector<Row> table = {
      {"IA3", " llama mistral ", {"k_proj", "v_proj", "down_proj"}},
      {"IA3", " gemma gemma2 qwen2 qwen3 llama4 ", {"q_proj", "v_proj", "down_proj"}},
      {"IA3", " gpt2 ", {"c_attn", "mlp.c_proj"}},
      {"IA3", " t5 mt5 ", {"k", "v", "wo"}},
      {"IA3", " bert roberta ", {"key", "value", "output.dense"}},
      {"IA3", " ", {}},
      {"LN_TUNING", " llama mistral ", {"input_layernorm", "post_attention_layernorm", "norm"}},
      {"LN_TUNING", " qwen2 qwen3 ", {"post_attention_layernorm"}},
      {"LN_TUNING", " ", {}},
      {"FOURIERFT", " gpt2 ", {"mlp.c_proj"}},
      {"C3A", " gpt2 ", {"mlp.c_proj"}},
      {"ADALORA", " t5 mt5 ", {"q", "k", "v", "o", "wi", "wo"}},
      {"ADALORA", " roberta ", {"query", "key", "value", "dense"}},
  };
  const auto of = [&](std::string_view who) -> const Row* {
    for (const Row& row : table)
      if (row.method == who && row.types.find(" " + std::string(model_type) + " ") != std::string_view::npos) return &row;
    return nullptr;
  };
  if (const Row* row = of(method)) return row->names;
  for (const Row& row : table)
    if (row.method == method && row.types == " ") return {};  // this method's table is complete
  return default_lora_targets(model_type);
}

}  // namespace peft
