// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// AdaLoRA's options, named and defaulted as PEFT's AdaLoraConfig.
struct AdaLoraConfig {
  static constexpr const char* peft_type = "ADALORA";
  std::int64_t target_r = 8;      // rank of a module at the end, on average
  std::int64_t init_r = 12;       // rank of each at the beginning
  std::int64_t tinit = 0;         // steps before ranks fall
  std::int64_t tfinal = 0;        // steps behind, at the final ranks
  std::int64_t deltaT = 1;        // steps between two allocations
  double beta1 = 0.85;            // of the sensitivity
  double beta2 = 0.85;            // of its uncertainty
  double orth_reg_weight = 0.5;   // of the penalty
  std::int64_t total_step = 0;    // of the run; 0: the trainer counts them
  RowPatterns rank_pattern = {};  // which rows are left; out of a file
  double lora_alpha = 8;
  double lora_dropout = 0;
  Toggle init_lora_weights = true;    // E begins at 0
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("target_r", self.target_r);
    field("init_r", self.init_r);
    field("tinit", self.tinit);
    field("tfinal", self.tfinal);
    field("deltaT", self.deltaT);
    field("beta1", self.beta1);
    field("beta2", self.beta2);
    field("orth_reg_weight", self.orth_reg_weight);
    field("total_step", self.total_step);
    field("rank_pattern", self.rank_pattern);
    field.keep("r", "8");  // which AdaLoRA does not read
    field.whole("lora_alpha", self.lora_alpha);
    field("lora_dropout", self.lora_dropout);
    field("init_lora_weights", self.init_lora_weights);
    field.only("bias", "\"none\"");
    for (const char* key : {"alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "monteclora_config", "target_parameters",
                            "trainable_token_indices", "use_bdlora", "velora_config", "megatron_config"})
      field.only(key, "null");
    for (const char* key : {"use_qalora", "ensure_weight_tying", "use_dora", "lora_bias", "use_rslora"}) field.only(key, "false");
    for (const char* key : {"eva_config", "corda_config", "lora_ga_config"}) field.keep(key, "null");
    field.keep("fan_in_fan_out", "false");
    field.keep("megatron_core", "\"megatron.core\"");
    field.only("loftq_config", "{}");
    field.keep("qalora_group_size", "16");
    field.keep("alpha_pattern", "{}");  // nor has PEFT's AdaLoRA a use for it
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const AdaLoraConfig& c) {
  detail::check_rank("AdaLoraConfig", "init_r", c.init_r);
  detail::check_rank("AdaLoraConfig", "target_r", c.target_r);
  detail::check_probability("AdaLoraConfig", "lora_dropout", c.lora_dropout);
  if (c.total_step > 0 && c.tinit >= c.total_step - c.tfinal)
    detail::refuse("AdaLoraConfig", "tinit is " + std::to_string(c.tinit) + " and tfinal " + std::to_string(c.tfinal) + " of total_step " +
                                        std::to_string(c.total_step) + "; something must be left between");
  if (c.deltaT < 1) detail::refuse("AdaLoraConfig", "deltaT is " + std::to_string(c.deltaT) + "; at least 1 is wanted");
  for (const double beta : {c.beta1, c.beta2})
    if (!(beta > 0 && beta < 1))
      detail::refuse("AdaLoraConfig", "beta1 and beta2 are " + std::to_string(c.beta1) + " and " + std::to_string(c.beta2) + "; allowed is 0 < beta < 1");
  if (!(c.orth_reg_weight >= 0)) detail::refuse("AdaLoraConfig", "orth_reg_weight is " + std::to_string(c.orth_reg_weight) + "; at least 0 is wanted");
  detail::check_layers("AdaLoraConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline AdaLoraConfig resolved(AdaLoraConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
