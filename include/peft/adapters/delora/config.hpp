// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// DeLoRA's options, named and defaulted as PEFT's DeloraConfig.
struct DeloraConfig {
  static constexpr const char* peft_type = "DELORA";
  std::int64_t r = 8;
  double delora_lambda = 15;  // bound of the change
  double module_dropout = 0;
  bool init_weights = true;  // B begins at 0
  Patterns<std::int64_t> rank_pattern = {};
  Patterns<double> lambda_pattern = {};
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field.whole("delora_lambda", self.delora_lambda);
    field("module_dropout", self.module_dropout);
    field("init_weights", self.init_weights);
    field("rank_pattern", self.rank_pattern);
    field.whole("lambda_pattern", self.lambda_pattern);
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const DeloraConfig& c) {
  detail::check_rank("DeloraConfig", "r", c.r);
  for (const auto& [pattern, r] : c.rank_pattern) detail::check_rank("DeloraConfig", "rank_pattern[\"" + pattern + "\"]", r);
  detail::check_finite("DeloraConfig", "delora_lambda", c.delora_lambda);
  detail::check_probability("DeloraConfig", "module_dropout", c.module_dropout);
  detail::check_layers("DeloraConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline DeloraConfig resolved(DeloraConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
