// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// Options of bottleneck adapters. PEFT has no such method and cannot load such a file; the names are AdapterHub's (BnConfig) where it has one. What
/// is not set has the variant's own value.
struct BottleneckConfig {
  static constexpr const char* peft_type = "BOTTLENECK";
  static constexpr const char* sits_on = "sublayer";
  std::string variant = "pfeiffer";          // houlsby | pfeiffer | parallel: AdapterHub's double_seq_bn, seq_bn and par_bn
  std::int64_t bottleneck_size = 0;          // 0: hidden_size / reduction_factor
  double reduction_factor = 0;               // 0: 16; parallel: 2
  std::string non_linearity = "";            // relu | gelu | gelu_new | silu, or swish | tanh; nothing: relu; houlsby: swish
  double scaling = 0;                        // 0: 1; parallel: 4
  bool learned_scaling = false;              // one number an adapter, which begins at `scaling`; AdapterHub's scaling = "learned"
  double dropout = 0;                        // on what is added
  std::string init_weights = "mam_adapter";  // mam_adapter: `up` begins at 0, exactly the identity | bert, houlsby: both at random and small
  bool cross_adapter = false;                // houlsby: behind the cross-attention of an encoder-decoder, too
  TargetModules target_modules = {};         // of the variant's sublayers; nothing: all
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};
  std::vector<std::string> layers_pattern = {};
  std::vector<std::string> modules_to_save = {};  // these train as a whole, as copies of their own
  std::int64_t hidden_size = 0;                   // of the model; filled in, not in a file
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("variant", self.variant);
    field("bottleneck_size", self.bottleneck_size);
    field.whole("reduction_factor", self.reduction_factor);
    field("non_linearity", self.non_linearity);
    field("scaling", self.scaling);
    field("learned_scaling", self.learned_scaling);
    field("dropout", self.dropout);
    field("init_weights", self.init_weights);
    field("cross_adapter", self.cross_adapter);
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const BottleneckConfig& c) {
  constexpr const char* name = "BottleneckConfig";
  detail::check_choice(name, "variant", c.variant, {"houlsby", "pfeiffer", "parallel"});
  if (!c.non_linearity.empty()) detail::check_choice(name, "non_linearity", c.non_linearity, {"relu", "gelu", "gelu_new", "silu", "swish", "tanh"});
  detail::check_choice(name, "init_weights", c.init_weights, {"mam_adapter", "bert", "houlsby"});
  if (c.bottleneck_size != 0) detail::check_positive(name, "bottleneck_size", c.bottleneck_size);
  if (!(c.reduction_factor >= 0)) detail::refuse(name, "reduction_factor is " + std::to_string(c.reduction_factor) + "; a positive number is wanted");
  detail::check_finite(name, "reduction_factor", c.reduction_factor);
  detail::check_finite(name, "scaling", c.scaling);
  detail::check_probability(name, "dropout", c.dropout);
  if (c.cross_adapter && c.variant != "houlsby") detail::refuse(name, "cross_adapter = true goes with variant \"houlsby\", not with \"" + c.variant + "\"");
  if (!c.layers_pattern.empty() && c.layers_to_transform.empty()) detail::refuse(name, "layers_pattern without layers_to_transform");
}
inline BottleneckConfig resolved(BottleneckConfig config, std::string_view) {
  validate(config);
  const bool parallel = config.variant == "parallel";
  if (config.reduction_factor == 0) config.reduction_factor = parallel ? 2 : 16;
  if (config.scaling == 0) config.scaling = parallel ? 4 : 1;
  if (config.non_linearity.empty()) config.non_linearity = config.variant == "houlsby" ? "swish" : "relu";
  if (config.target_modules.empty()) config.target_modules = ".*";
  return config;
}

}  // namespace peft
