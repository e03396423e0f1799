// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <regex>
#include <utility>

#include "peft/adapters/target_modules.hpp"

namespace peft {

PEFT_INLINE bool is_suffix_of(std::string_view name, std::string_view path) {
  return path == name || (path.size() > name.size() && path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

PEFT_INLINE bool full_match(std::string_view operation, const std::string& expression, std::string_view text) {
  // std::regex recurses on its input; a module path is short, an expression from a stranger's file need not be.
  if (expression.size() > 2000)
    throw ConfigError(operation, "a regular expression of " + std::to_string(expression.size()) + " characters; at most 2000 are taken");
  try {
    return std::regex_match(text.begin(), text.end(), std::regex(expression, std::regex::ECMAScript));
  } catch (const std::regex_error& error) {
    throw ConfigError(operation, "\"" + expression + "\" is not a regular expression: " + error.what());
  }
}

PEFT_INLINE bool TargetModules::matches(std::string_view path) const {
  if (is_list_) return std::ranges::any_of(names_, [&](const std::string& name) { return is_suffix_of(name, path); });
  if (pattern_.empty()) return false;
  return all_linear() || full_match("target_modules", pattern_, path);
}

PEFT_INLINE std::string TargetModules::text() const {
  if (!is_list_) return pattern_;
  std::string all;
  for (const std::string& name : names_) all += (all.empty() ? "" : ", ") + name;
  return all;
}

PEFT_INLINE std::vector<std::string> default_lora_targets(std::string_view model_type) {
  using Row = std::pair<std::string_view, std::vector<std::string>>;
  static const std::vector<Row> table = {
      {"t5", {"q", "v"}},
      {"mt5", {"q", "v"}},
      {"gpt2", {"c_attn"}},
      {"llama", {"q_proj", "v_proj"}},
      {"mistral", {"q_proj", "v_proj"}},
      {"qwen2", {"q_proj", "v_proj"}},
      {"qwen3", {"q_proj", "v_proj"}},
      {"gemma", {"q_proj", "v_proj"}},
      {"gemma2", {"q_proj", "v_proj"}},
      {"opt", {"q_proj", "v_proj"}},
      {"bert", {"query", "value"}},
      {"roberta", {"query", "value"}},
      {"xlm-roberta", {"query", "value"}},
      {"bloom", {"query_key_value"}},
      {"gpt_neox", {"query_key_value"}},
      {"chatglm", {"query_key_value"}},
      {"phi", {"q_proj", "v_proj", "fc1", "fc2"}},
  };
  for (const auto& [type, names] : table)
    if (type == model_type) return names;
  return {};
}

}  // namespace peft
