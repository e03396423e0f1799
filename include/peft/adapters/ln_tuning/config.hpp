// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// LN tuning's options, named and defaulted as PEFT's LNTuningConfig.
struct LNTuningConfig {
  static constexpr const char* peft_type = "LN_TUNING";
  static constexpr const char* sits_on = "Norm";
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::string> modules_to_save = {};  // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) { detail::describe_targets(self, field); }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const LNTuningConfig& c) { static_cast<void>(c); }
inline LNTuningConfig resolved(LNTuningConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
