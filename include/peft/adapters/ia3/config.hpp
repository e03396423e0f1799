// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// IA³'s options, named and defaulted as PEFT's IA3Config.
struct IA3Config {
  static constexpr const char* peft_type = "IA3";
  TargetModules feedforward_modules = {};  // of the targets, those whose input is scaled; nothing: PEFT's default
  bool init_ia3_weights = true;            // begin at 1; false: at random, for tests
  TargetModules target_modules = {};       // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::string> modules_to_save = {};  // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("feedforward_modules", self.feedforward_modules);
    field("init_ia3_weights", self.init_ia3_weights);
    field.keep("fan_in_fan_out", "false");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const IA3Config& c) {
  if (!c.feedforward_modules.empty() && c.feedforward_modules.is_list() && c.target_modules.is_list())
    for (const std::string& name : c.feedforward_modules.names())
      if (const auto& all = c.target_modules.names(); std::find(all.begin(), all.end(), name) == all.end())
        detail::refuse("IA3Config", "feedforward_modules names \"" + name + "\", which is not among target_modules (" + c.target_modules.text() + ")");
}
inline IA3Config resolved(IA3Config config, std::string_view model_type) {
  if (config.target_modules.empty() && config.feedforward_modules.empty()) {
    config = detail::with_default_targets(std::move(config), model_type);
    config.feedforward_modules = TargetModules(std::vector<std::string>{config.target_modules.names().back()});  // PEFT's tables name it last
  }
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
