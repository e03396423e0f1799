// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// LoHa's options, named and defaulted as PEFT's LoHaConfig.
struct LoHaConfig {
  static constexpr const char* peft_type = "LOHA";
  std::int64_t r = 8;
  double alpha = 8;
  bool init_weights = true;   // w2_b begins at 0
  double rank_dropout = 0;    // of rows of Δ
  double module_dropout = 0;  // of all of Δ
  Patterns<std::int64_t> rank_pattern = {};
  Patterns<double> alpha_pattern = {};
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field.whole("alpha", self.alpha);
    field("init_weights", self.init_weights);
    field("rank_pattern", self.rank_pattern);
    field.whole("alpha_pattern", self.alpha_pattern);
    field("rank_dropout", self.rank_dropout);
    field("module_dropout", self.module_dropout);
    field.keep("use_effective_conv2d", "false");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const LoHaConfig& c) {
  detail::check_rank("LoHaConfig", "r", c.r);
  for (const auto& [pattern, r] : c.rank_pattern) detail::check_rank("LoHaConfig", "rank_pattern[\"" + pattern + "\"]", r);
  detail::check_finite("LoHaConfig", "alpha", c.alpha);
  detail::check_probability("LoHaConfig", "rank_dropout", c.rank_dropout);
  detail::check_probability("LoHaConfig", "module_dropout", c.module_dropout);
  detail::check_layers("LoHaConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline LoHaConfig resolved(LoHaConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
