// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "peft/adapters/config_fields.hpp"
#include "peft/core/dtype.hpp"

namespace peft {

/// How a fresh LoRA begins. true: A uniform in ±1/√in, B zero. gaussian: A ~ N(0, 1/r²), B zero. false: both uniform, so that the adapter
/// changes the model at once (for tests). orthogonal: both at random, but with B A = 0, for an even r. pissa (arXiv:2404.02948), olora (arXiv:2406.01775): A
/// and B begin as the base's leading part, by its singular values or its QR, which is taken off the base. loftq_nf4 (arXiv:2310.08659), or any type that
/// ops::quantized writes in its place: the base is quantised, and A and B begin as the leading part of what that loses; loftq_nf4_niter_5 alternates the two
/// five times. eva (arXiv:2410.07170): as true, until initialize_lora_eva_weights has seen data.
class InitLoraWeights {
 public:
  enum Kind { zero_b, random, gaussian, orthogonal, pissa, olora, loftq, eva };
  InitLoraWeights(bool on) : kind_(on ? zero_b : random) {}
  InitLoraWeights(const char* name) : InitLoraWeights(std::string(name)) {}
  InitLoraWeights(const std::string& name);
  InitLoraWeights(const Toggle& value) : InitLoraWeights(value.name.empty() ? InitLoraWeights(value.on) : InitLoraWeights(value.name)) {}
  Kind kind() const { return kind_; }
  /// A and B belong to a base whose weights are others than the model's.
  bool changes_base() const { return kind_ == pissa || kind_ == olora || kind_ == loftq; }
  /// LoftQ's.
  DType quantize() const { return quantize_; }
  std::int64_t iterations() const { return iterations_; }
  Toggle toggle() const;
  bool operator==(const InitLoraWeights&) const = default;

 private:
  void set_loftq(const std::string& name);
  Kind kind_;
  DType quantize_ = DType::nf4;
  std::int64_t iterations_ = 1;
};

/// LoRA's options, named and defaulted as PEFT's LoraConfig.
struct LoraConfig {
  static constexpr const char* peft_type = "LORA";
  std::int64_t r = 8;
  double lora_alpha = 8;
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  double lora_dropout = 0;
  bool use_rslora = false;    // scale by alpha/√r instead of alpha/r (arXiv:2312.03732)
  std::string bias = "none";  // none | all | lora_only: which biases of the base train
  InitLoraWeights init_lora_weights = true;
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  Patterns<std::int64_t> rank_pattern = {};
  Patterns<double> alpha_pattern = {};
  std::vector<std::string> modules_to_save = {};  // these train as a whole, as copies of their own
  TokenIndices trainable_token_indices = {};      // rows of embeddings that train
  bool use_dora = false;                          // weights by magnitude and direction (arXiv:2402.09353)
  bool lora_bias = false;                         // B has a bias
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    field("r", self.r);
    field.whole("lora_alpha", self.lora_alpha);
    detail::describe_targets(self, field);
    field("lora_dropout", self.lora_dropout);
    field("use_rslora", self.use_rslora);
    field("bias", self.bias);
    field("init_lora_weights", self.init_lora_weights), field.as_written("init_lora_weights");
    field("rank_pattern", self.rank_pattern);
    field.whole("alpha_pattern", self.alpha_pattern);
    field("trainable_token_indices", self.trainable_token_indices);
    field("use_dora", self.use_dora);
    field("lora_bias", self.lora_bias);
    for (const char* key : {"target_parameters", "layer_replication", "alora_invocation_tokens", "use_bdlora", "arrow_config", "kasa_config", "velora_config",
                            "monteclora_config", "megatron_config"})
      field.only(key, "null");
    for (const char* key : {"use_qalora", "ensure_weight_tying"}) field.only(key, "false");
    for (const char* key : {"eva_config", "corda_config", "lora_ga_config"}) field.keep(key, "null");
    field.keep("fan_in_fan_out", "false"), field.keep("megatron_core", "\"megatron.core\"");
    field.keep("loftq_config", "{}"), field.keep("qalora_group_size", "16");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
void validate(const LoraConfig& config);

/// r, alpha and scaling for the module at `path`, patterns applied.
struct LoraScale {
  std::int64_t r;
  double alpha, scaling;
};
LoraScale lora_scale(const LoraConfig& config, std::string_view path);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/adapters/lora/config.inl"
#endif
