// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// HRA's options, named and defaulted as PEFT's HRAConfig.
struct HRAConfig {
  static constexpr const char* peft_type = "HRA";
  std::int64_t r = 8;                 // reflections
  bool apply_GS = false;              // Gram-Schmidt: the directions are made orthogonal to each other
  bool init_weights = true;           // pairs that cancel each other
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field("init_weights", self.init_weights);
    field("apply_GS", self.apply_GS);
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const HRAConfig& c) {
  detail::check_rank("HRAConfig", "r", c.r);
  detail::check_layers("HRAConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline HRAConfig resolved(HRAConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
