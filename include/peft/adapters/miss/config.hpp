// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// MiSS's options, named and defaulted as PEFT's MissConfig.
struct MissConfig {
  static constexpr const char* peft_type = "MISS";
  std::int64_t r = 64;
  std::int64_t mini_r = 1;  // of "mini"
  double miss_dropout = 0;
  Toggle init_weights = true;         // "bat": blocks that see the base's weight; "mini": one shard for all; false: at random
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field("mini_r", self.mini_r);
    field("miss_dropout", self.miss_dropout);
    field("init_weights", self.init_weights);
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const MissConfig& c) {
  detail::check_rank("MissConfig", "r", c.r);
  detail::check_positive("MissConfig", "mini_r", c.mini_r);
  detail::check_probability("MissConfig", "miss_dropout", c.miss_dropout);
  if (!c.init_weights.name.empty()) detail::check_choice("MissConfig", "init_weights", c.init_weights.name, {"bat", "mini"});
  detail::check_layers("MissConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline MissConfig resolved(MissConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
