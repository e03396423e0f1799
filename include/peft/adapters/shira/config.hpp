// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// SHiRA's options, named and defaulted as PEFT's ShiraConfig.
struct ShiraConfig {
  static constexpr const char* peft_type = "SHIRA";
  std::int64_t r = 32;                            // r (in + out) entries train
  std::int64_t random_seed = 0;                   // of their places
  bool init_weights = true;                       // begin at 0
  TargetModules target_modules = {};              // nothing: PEFT's default for the architecture
  std::vector<std::string> modules_to_save = {};  // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field("init_weights", self.init_weights);
    field("random_seed", self.random_seed);
    field.as_written("random_seed");
    field.only("mask_type", "\"random\"");
    field.keep("fan_in_fan_out", "false");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const ShiraConfig& c) { detail::check_rank("ShiraConfig", "r", c.r); }
inline ShiraConfig resolved(ShiraConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
