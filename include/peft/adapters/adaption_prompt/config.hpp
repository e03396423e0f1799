// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// Options of the adaption prompt (LLaMA-Adapter), named as PEFT's AdaptionPromptConfig.
struct AdaptionPromptConfig {
  static constexpr const char* peft_type = "ADAPTION_PROMPT";
  static constexpr const char* sits_on = "self-attention";
  std::int64_t adapter_len = 10;      // virtual tokens of each layer
  std::int64_t adapter_layers = 1;    // so many of the last layers
  std::int64_t num_layers = 0;        // of the model; filled in, not in a file; so is the next
  bool behind_o_proj = false;         // GPT-2's way
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("adapter_len", self.adapter_len), field("adapter_layers", self.adapter_layers);
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const AdaptionPromptConfig& c) {
  detail::check_positive("AdaptionPromptConfig", "adapter_len", c.adapter_len);
  detail::check_positive("AdaptionPromptConfig", "adapter_layers", c.adapter_layers);
}
inline AdaptionPromptConfig resolved(AdaptionPromptConfig config, std::string_view model_type) {
  validate(config);
  if (config.target_modules.empty()) config.target_modules = model_type == "gpt2" ? "attn" : "self_attn";
  return config;
}

}  // namespace peft
