// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "peft/adapters/target_modules.hpp"
#include "peft/core/token_template.hpp"

namespace peft {

// How a config says what it is in adapter_config.json:
//
//     static void describe(auto& self, auto&& field) {
//       field("r", self.r);                          // read if it is there, always written
//       field.whole("lora_alpha", self.lora_alpha);  // a double that PEFT writes as an integer where it is one
//       field.as_written("init_weights");            // written again as the file had it
//       field.only("use_qalora", "false");           // the one value (JSON) that is supported: others are refused by name and value
//       field.keep("loftq_config", "{}");            // handed on as it was read; the value to write if none was
//       field.own("token_template", self.token_template);  // a text that PEFT does not know, written where it is not empty
//     }
//
// A member may be a std::int64_t, double, bool, std::string, std::optional<std::string> (null), TargetModules, Toggle, a list of integers or
// names, or one of the patterns below.

/// true, false or a name: PEFT's init_weights.
struct Toggle {
  bool on = true;
  std::string name = {};
  Toggle() = default;
  Toggle(bool value) : on(value) {}
  Toggle(const char* value) : on(true), name(value) {}
  Toggle(std::string value) : on(true), name(std::move(value)) {}
  bool operator==(const Toggle&) const = default;
};

/// Pattern → value, the first match in this order wins; a pattern matches the end of a module's path as a regular expression.
template <class V>
using Patterns = std::vector<std::pair<std::string, V>>;

/// Module → token ids; the name "" is the input embedding, and stands alone (a list in the file).
using TokenIndices = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

/// Tensor → which of its rows are there.
using RowPatterns = std::vector<std::pair<std::string, std::vector<bool>>>;

namespace detail {
/// True if (.*\.)?(pattern) matches the path. A pattern of nothing but letters, digits, '_' and '.' needs no automaton.
bool matches_end(std::string_view field, const std::string& pattern, std::string_view path);
template <class V>
const V* find_pattern(std::string_view field, const Patterns<V>& patterns, std::string_view path) {
  for (const auto& [pattern, value] : patterns)
    if (matches_end(field, pattern, path)) return &value;
  return nullptr;
}
template <class V>
V pattern_or(std::string_view field, const Patterns<V>& patterns, std::string_view path, V otherwise) {
  const V* found = find_pattern(field, patterns, path);
  return found ? *found : otherwise;
}
/// The number of the layer that a path names: the first segment of digits behind two others, or behind `pattern`; -1 if there is none.
std::int64_t layer_index(std::string_view path, const std::vector<std::string>& patterns);
}  // namespace detail

/// True if a config's options select the module at `path` (`is_head`: the output head, which "all-linear" leaves out).
template <class C>
bool targets(const C& config, std::string_view path, bool is_head) {
  if (config.target_modules.all_linear() && is_head) return false;
  if (!config.target_modules.matches(path)) return false;
  if constexpr (requires { config.exclude_modules; })
    if (config.exclude_modules.matches(path)) return false;
  if constexpr (requires { config.layers_to_transform; }) {
    if (config.layers_to_transform.empty()) return true;
    const std::int64_t layer = detail::layer_index(path, config.layers_pattern);
    for (std::int64_t wanted : config.layers_to_transform)
      if (wanted == layer) return true;
    return false;
  }
  return true;
}

/// Defaults of PEFT for a config.json's model_type; empty if there is none. `method`: its peft_type; what has no table of its own has LoRA's.
std::vector<std::string> default_targets(std::string_view method, std::string_view model_type);

namespace detail {
inline std::string lower(std::string_view name) {
  std::string text(name);
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  return text;
}
/// What most methods' `resolved` does: fills in the default targets, or throws ConfigError.
template <class C>
C with_default_targets(C config, std::string_view model_type) {
  if (config.target_modules.empty()) {
    const auto names = default_targets(C::peft_type, model_type);
    if (names.empty())
      throw ConfigError(lower(C::peft_type) + ".attach", "target_modules is not set, and there is no default for model_type \"" + std::string(model_type) +
                                                             "\"; name the modules, or say \"all-linear\"");
    config.target_modules = TargetModules(names);
  }
  return config;
}

// Refusals of a config's validate: by name, value and what is allowed.
[[noreturn]] void refuse(const char* config, const std::string& text);
void check_rank(const char* config, const std::string& field, std::int64_t r);
void check_probability(const char* config, const char* field, double p);
void check_choice(const char* config, const char* field, const std::string& value, const std::vector<std::string>& allowed);
void check_positive(const char* config, const char* field, std::int64_t value);
void check_finite(const char* config, const char* field, double value);
void check_layers(const char* config, const TargetModules& target_modules, const std::vector<std::int64_t>& layers,
                  const std::vector<std::string>& layers_pattern);

/// Throws ConfigError where a token_template is none, or places another number of tokens.
template <class C>
void check_token_template(const char* name, const C& config) {
  if (config.token_template.empty()) return;
  const std::int64_t placed = num_virtual_tokens(parse_token_template(config.token_template));
  if (placed != config.num_virtual_tokens)
    refuse(name, "num_virtual_tokens is " + std::to_string(config.num_virtual_tokens) + ", and token_template places " + std::to_string(placed));
}

/// The fields that choose modules, as most methods have them.
void describe_targets(auto& self, auto&& field) {
  field("target_modules", self.target_modules);
  if constexpr (requires { self.exclude_modules; }) field("exclude_modules", self.exclude_modules);
  if constexpr (requires { self.layers_to_transform; }) {
    field("layers_to_transform", self.layers_to_transform), field.as_written("layers_to_transform");
    field("layers_pattern", self.layers_pattern), field.as_written("layers_pattern");
  }
  if constexpr (requires { self.modules_to_save; }) field("modules_to_save", self.modules_to_save);
}
}  // namespace detail

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/adapters/impl/config_fields.inl"
#endif
