// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// HiRA's options, named and defaulted as PEFT's HiraConfig.
struct HiraConfig {
  static constexpr const char* peft_type = "HIRA";
  std::int64_t r = 32;
  double hira_dropout = 0;
  Toggle init_weights = true;         // "gaussian"; false: both at random
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field("hira_dropout", self.hira_dropout);
    field("init_weights", self.init_weights);
    field.keep("rank_pattern", "{}");  // which PEFT's HiRA reads and does not apply: every module has rank r
    field.keep("fan_in_fan_out", "false");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const HiraConfig& c) {
  detail::check_rank("HiraConfig", "r", c.r);
  detail::check_probability("HiraConfig", "hira_dropout", c.hira_dropout);
  if (!c.init_weights.name.empty()) detail::check_choice("HiraConfig", "init_weights", c.init_weights.name, {"gaussian"});
  detail::check_layers("HiraConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline HiraConfig resolved(HiraConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
