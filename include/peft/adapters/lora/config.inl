// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <regex>

#include "peft/adapters/lora/config.hpp"

namespace peft {

namespace detail {
// The number of the layer that a path names: the first segment of digits behind two others, or behind `pattern`.
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

template <class V>
const V* find_pattern(std::string_view field, const Patterns<V>& patterns, std::string_view path) {
  for (const auto& [pattern, value] : patterns)
    if (full_match(field, R"((.*\.)?()" + pattern + ")", path)) return &value;
  return nullptr;
}
}  // namespace detail

PEFT_INLINE InitLoraWeights::InitLoraWeights(const std::string& name) : kind_(zero_b) {
  const std::array<std::string, 3> known = {"true", "false", "gaussian"};
  if (name == "gaussian")
    kind_ = gaussian;
  else if (name == "false")
    kind_ = random;
  else if (name != "true")
    throw ConfigError("LoraConfig", "init_lora_weights \"" + name + "\" is not known" + did_you_mean(name, known, "known here"));
}

PEFT_INLINE void validate(const LoraConfig& c) {
  const auto refuse = [](const std::string& text) { throw ConfigError("LoraConfig", text); };
  const auto rank = [&](const std::string& what, std::int64_t r) {
    if (r < 1) refuse(what + " is " + std::to_string(r) + "; a rank of at least 1 is wanted");
    if (r > 65536) refuse(what + " is " + std::to_string(r) + "; more than 65,536 is no low rank");
  };
  rank("r", c.r);
  for (const auto& [pattern, r] : c.rank_pattern) rank("rank_pattern[\"" + pattern + "\"]", r);
  if (!std::isfinite(c.lora_alpha)) refuse("lora_alpha is not finite");
  for (const auto& [pattern, alpha] : c.alpha_pattern)
    if (!std::isfinite(alpha)) refuse("alpha_pattern[\"" + pattern + "\"] is not finite");
  if (!(c.lora_dropout >= 0 && c.lora_dropout < 1)) refuse("lora_dropout is " + std::to_string(c.lora_dropout) + "; allowed is 0 ≤ p < 1");
  const std::array<std::string, 3> biases = {"none", "all", "lora_only"};
  if (std::ranges::find(biases, c.bias) == biases.end()) refuse("bias \"" + c.bias + "\"" + did_you_mean(c.bias, biases, "allowed are"));
  if (!c.layers_to_transform.empty() && !c.target_modules.empty() && !c.target_modules.is_list())
    refuse("layers_to_transform goes with a list of target_modules, not with the pattern \"" + c.target_modules.pattern() + "\"");
  if (!c.layers_pattern.empty() && c.layers_to_transform.empty()) refuse("layers_pattern without layers_to_transform");
}

PEFT_INLINE LoraScale lora_scale(const LoraConfig& config, std::string_view path) {
  LoraScale s{config.r, config.lora_alpha, 0};
  if (const auto* r = detail::find_pattern("rank_pattern", config.rank_pattern, path)) s.r = *r;
  if (const auto* alpha = detail::find_pattern("alpha_pattern", config.alpha_pattern, path)) s.alpha = *alpha;
  s.scaling = s.alpha / (config.use_rslora ? std::sqrt(double(s.r)) : double(s.r));
  return s;
}

PEFT_INLINE bool targets(const LoraConfig& config, std::string_view path, bool is_head) {
  if (config.target_modules.all_linear() && is_head) return false;
  if (!config.target_modules.matches(path) || config.exclude_modules.matches(path)) return false;
  if (config.layers_to_transform.empty()) return true;
  const std::int64_t layer = detail::layer_index(path, config.layers_pattern);
  return std::ranges::find(config.layers_to_transform, layer) != config.layers_to_transform.end();
}

}  // namespace peft
