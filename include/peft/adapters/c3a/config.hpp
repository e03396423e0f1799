// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// C³A's options, named and defaulted as PEFT's C3AConfig.
struct C3AConfig {
  static constexpr const char* peft_type = "C3A";
  std::int64_t block_size = 256;
  Patterns<std::int64_t> block_size_pattern = {};
  Toggle init_weights = "xavier_uniform";              // true: 0; gaussian | kaiming_uniform | xavier_uniform
  TargetModules target_modules = {};                   // nothing: PEFT's default for the architecture
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("block_size", self.block_size);
    field("block_size_pattern", self.block_size_pattern);
    field("init_weights", self.init_weights);
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const C3AConfig& c) {
  detail::check_positive("C3AConfig", "block_size", c.block_size);
  if (!c.init_weights.name.empty()) detail::check_choice("C3AConfig", "init_weights", c.init_weights.name, {"gaussian", "kaiming_uniform", "xavier_uniform"});
  detail::check_layers("C3AConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline C3AConfig resolved(C3AConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
