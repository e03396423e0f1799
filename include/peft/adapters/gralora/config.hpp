// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// GraLoRA's options, named and defaulted as PEFT's GraloraConfig.
struct GraloraConfig {
  static constexpr const char* peft_type = "GRALORA";
  std::int64_t r = 32;
  std::int64_t hybrid_r = 0;  // rank of an ordinary LoRA beside it
  double alpha = 64;
  double gralora_dropout = 0;
  std::int64_t gralora_k = 2;                          // blocks along each side
  bool init_weights = true;                            // B begins at 0
  TargetModules target_modules = {};                   // nothing: PEFT's default for the architecture
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field("hybrid_r", self.hybrid_r);
    field.whole("alpha", self.alpha);
    field("gralora_dropout", self.gralora_dropout);
    field("gralora_k", self.gralora_k);
    field("init_weights", self.init_weights);
    field.keep("fan_in_fan_out", "false");
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const GraloraConfig& c) {
  detail::check_rank("GraloraConfig", "r", c.r);
  detail::check_positive("GraloraConfig", "gralora_k", c.gralora_k);
  if (c.r % c.gralora_k != 0)
    detail::refuse("GraloraConfig", "r is " + std::to_string(c.r) + ", which gralora_k (" + std::to_string(c.gralora_k) + ") does not divide");
  if (c.hybrid_r < 0) detail::refuse("GraloraConfig", "hybrid_r is " + std::to_string(c.hybrid_r) + "; at least 0 is wanted");
  detail::check_probability("GraloraConfig", "gralora_dropout", c.gralora_dropout);
  detail::check_layers("GraloraConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline GraloraConfig resolved(GraloraConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
