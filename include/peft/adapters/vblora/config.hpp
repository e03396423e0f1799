// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// VB-LoRA's options, named and defaulted as PEFT's VBLoRAConfig.
struct VBLoRAConfig {
  static constexpr const char* peft_type = "VBLORA";
  std::int64_t r = 4;
  std::int64_t num_vectors = 256;  // of the bank
  std::int64_t vector_length = 256;
  std::int64_t topk = 2;
  double vblora_dropout = 0;
  double init_vector_bank_bound = 0.02;
  double init_logits_std = 0.1;
  bool save_only_topk_weights = false;  // a file has the weights of the k vectors instead of all logits: for inference alone
  TargetModules target_modules = {};    // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field("num_vectors", self.num_vectors);
    field("vector_length", self.vector_length);
    field("topk", self.topk);
    field("vblora_dropout", self.vblora_dropout);
    field("init_vector_bank_bound", self.init_vector_bank_bound);
    field("init_logits_std", self.init_logits_std);
    field("save_only_topk_weights", self.save_only_topk_weights);
    field.keep("fan_in_fan_out", "false");
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const VBLoRAConfig& c) {
  detail::check_rank("VBLoRAConfig", "r", c.r);
  detail::check_positive("VBLoRAConfig", "num_vectors", c.num_vectors);
  detail::check_positive("VBLoRAConfig", "vector_length", c.vector_length);
  if (c.topk < 1 || c.topk > c.num_vectors)
    detail::refuse("VBLoRAConfig", "topk is " + std::to_string(c.topk) + "; allowed are 1 to num_vectors (" + std::to_string(c.num_vectors) + ")");
  detail::check_probability("VBLoRAConfig", "vblora_dropout", c.vblora_dropout);
  detail::check_layers("VBLoRAConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline VBLoRAConfig resolved(VBLoRAConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
