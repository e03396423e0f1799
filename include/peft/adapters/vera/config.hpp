// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// VeRA's options, named and defaulted as PEFT's VeraConfig.
struct VeraConfig {
  static constexpr const char* peft_type = "VERA";
  std::int64_t r = 256;
  std::int64_t projection_prng_key = 0;  // seed of A and B
  bool save_projection = true;           // write A and B; false: they are drawn again
  double vera_dropout = 0;
  double d_initial = 0.1;
  bool init_weights = true;                            // λ_b begins at 0
  TargetModules target_modules = {};                   // nothing: PEFT's default for the architecture
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field("projection_prng_key", self.projection_prng_key);
    field("save_projection", self.save_projection);
    field("vera_dropout", self.vera_dropout);
    field("d_initial", self.d_initial);
    field("init_weights", self.init_weights);
    field.keep("fan_in_fan_out", "false");
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const VeraConfig& c) {
  detail::check_rank("VeraConfig", "r", c.r);
  detail::check_probability("VeraConfig", "vera_dropout", c.vera_dropout);
  detail::check_finite("VeraConfig", "d_initial", c.d_initial);
  detail::check_layers("VeraConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline VeraConfig resolved(VeraConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
