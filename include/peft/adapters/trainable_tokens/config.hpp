// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// Options of trainable tokens, named and defaulted as PEFT's TrainableTokensConfig.
struct TrainableTokensConfig {
  static constexpr const char* peft_type = "TRAINABLE_TOKENS";
  static constexpr const char* sits_on = "Embedding";
  std::vector<std::int64_t> token_indices = {};  // the tokens whose rows train
  bool init_weights = true;                      // begin as the base's rows; false: at random, for tests
  TargetModules target_modules = {};             // nothing: PEFT's default for the architecture
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("token_indices", self.token_indices);
    field("init_weights", self.init_weights);
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const TrainableTokensConfig& c) {
  if (c.token_indices.empty()) detail::refuse("TrainableTokensConfig", "token_indices is empty; name the tokens that are to train");
}
inline TrainableTokensConfig resolved(TrainableTokensConfig config, std::string_view) {
  validate(config);
  return config;
}

}  // namespace peft
