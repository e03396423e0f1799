// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "peft/adapters/target_modules.hpp"

namespace peft {

/// How a fresh LoRA begins. true: A uniform in ±1/√in, B zero. gaussian: A ~ N(0, 1/r²), B zero. false: both uniform, so that the adapter
/// changes the model at once (for tests).
class InitLoraWeights {
 public:
  enum Kind { zero_b, random, gaussian };
  InitLoraWeights(bool on) : kind_(on ? zero_b : random) {}
  InitLoraWeights(const char* name) : InitLoraWeights(std::string(name)) {}
  InitLoraWeights(const std::string& name);
  Kind kind() const { return kind_; }
  bool operator==(const InitLoraWeights&) const = default;

 private:
  Kind kind_;
};

/// Pattern → value, the first match in this order wins; a pattern matches the end of a module's path as a regular expression.
template <class V>
using Patterns = std::vector<std::pair<std::string, V>>;

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
  std::string task_type = "CAUSAL_LM";
};

/// Throws ConfigError naming the field, its value and what is allowed.
void validate(const LoraConfig& config);

/// r, alpha and scaling for the module at `path`, patterns applied.
struct LoraScale {
  std::int64_t r;
  double alpha, scaling;
};
LoraScale lora_scale(const LoraConfig& config, std::string_view path);

/// True if the options select the module at `path` (a Linear; `is_head`: the output head, which "all-linear" leaves out).
bool targets(const LoraConfig& config, std::string_view path, bool is_head);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/adapters/lora/config.inl"
#endif
