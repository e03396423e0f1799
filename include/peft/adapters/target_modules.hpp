// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/error.hpp"

namespace peft {

/// Which modules a method sits on, by PEFT's rules. A list: a path that equals an entry or ends in "." + entry. A string: a regular
/// expression that matches the whole path; "all-linear": every Linear but the output head. Nothing: the method's default for the architecture.
class TargetModules {
 public:
  TargetModules() = default;
  TargetModules(const char* pattern) : pattern_(pattern) {}
  TargetModules(std::string pattern) : pattern_(std::move(pattern)) {}
  TargetModules(std::initializer_list<std::string_view> names) : names_(names.begin(), names.end()), is_list_(true) {}
  TargetModules(std::vector<std::string> names) : names_(std::move(names)), is_list_(true) {}

  bool empty() const { return pattern_.empty() && !is_list_; }
  bool is_list() const { return is_list_; }
  bool all_linear() const { return pattern_ == "all-linear"; }
  const std::vector<std::string>& names() const { return names_; }
  const std::string& pattern() const { return pattern_; }
  /// "all-linear" matches everything here; who asks leaves the head out.
  bool matches(std::string_view path) const;
  /// "q_proj, v_proj", or the pattern
  std::string text() const;
  bool operator==(const TargetModules&) const = default;

 private:
  std::vector<std::string> names_;
  std::string pattern_;
  bool is_list_ = false;
};

/// True if `name` is the path, or its last parts.
bool is_suffix_of(std::string_view name, std::string_view path);

/// Whole-string match of a regular expression; an invalid one throws ConfigError with `operation` in front.
bool full_match(std::string_view operation, const std::string& expression, std::string_view text);

/// PEFT's default targets of LoRA for a config.json's model_type; empty if there is none.
std::vector<std::string> default_lora_targets(std::string_view model_type);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/adapters/impl/target_modules.inl"
#endif
