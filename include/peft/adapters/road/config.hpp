// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// RoAd's options, named and defaulted as PEFT's RoadConfig.
struct RoadConfig {
  static constexpr const char* peft_type = "ROAD";
  std::string variant = "road_1";  // road_1 | road_2 | road_4: parameters an output
  std::int64_t group_size = 64;
  bool init_weights = true;                       // begin at the identity
  TargetModules target_modules = {};              // nothing: PEFT's default for the architecture
  std::vector<std::string> modules_to_save = {};  // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("variant", self.variant);
    field("group_size", self.group_size);
    field("init_weights", self.init_weights);
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const RoadConfig& c) {
  detail::check_choice("RoadConfig", "variant", c.variant, {"road_1", "road_2", "road_4"});
  if (c.group_size < 2 || c.group_size % 2 != 0) detail::refuse("RoadConfig", "group_size is " + std::to_string(c.group_size) + "; an even number is wanted");
}
inline RoadConfig resolved(RoadConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
