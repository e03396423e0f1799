// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// FourierFT's options, named and defaulted as PEFT's FourierFTConfig.
struct FourierFTConfig {
  static constexpr const char* peft_type = "FOURIERFT";
  std::int64_t n_frequency = 1000;  // coefficients of each module
  double scaling = 150;
  std::int64_t random_loc_seed = 777;  // of their places
  Patterns<std::int64_t> n_frequency_pattern = {};
  bool init_weights = false;          // begin at 0; false: N(0, 1)
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("n_frequency", self.n_frequency);
    field("scaling", self.scaling);
    field("random_loc_seed", self.random_loc_seed);
    field("n_frequency_pattern", self.n_frequency_pattern);
    field("init_weights", self.init_weights);
    field.keep("fan_in_fan_out", "false");
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const FourierFTConfig& c) {
  detail::check_positive("FourierFTConfig", "n_frequency", c.n_frequency);
  detail::check_finite("FourierFTConfig", "scaling", c.scaling);
  detail::check_layers("FourierFTConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline FourierFTConfig resolved(FourierFTConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
