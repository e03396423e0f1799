// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// Options of prefix tuning and P-Tuning v2, named and defaulted as PEFT's PrefixTuningConfig.
struct PrefixTuningConfig {
  static constexpr const char* peft_type = "PREFIX_TUNING";
  std::int64_t num_virtual_tokens = 20;
  std::int64_t encoder_hidden_size = 0;          // of the projection; 0: token_dim
  bool prefix_projection = false;                // keys and values come out of an MLP; false: P-Tuning v2
  std::optional<std::string> init_weights = {};  // "zero": begin at zeros
  std::int64_t token_dim = 0;                    // 0: the model's; so are the next three
  std::int64_t num_transformer_submodules = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_layers = 0;
  std::vector<std::string> modules_to_save = {};  // these train as a whole, as copies of their own: a classifier
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    field("num_virtual_tokens", self.num_virtual_tokens);
    field("token_dim", self.token_dim);
    field("num_transformer_submodules", self.num_transformer_submodules);
    field("num_attention_heads", self.num_attention_heads);
    field("num_layers", self.num_layers);
    field("encoder_hidden_size", self.encoder_hidden_size);
    field("prefix_projection", self.prefix_projection);
    field("init_weights", self.init_weights);
    field("modules_to_save", self.modules_to_save);
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const PrefixTuningConfig& c) {
  detail::check_positive("PrefixTuningConfig", "num_virtual_tokens", c.num_virtual_tokens);
  if (c.init_weights && *c.init_weights != "zero")
    detail::refuse("PrefixTuningConfig", "init_weights \"" + *c.init_weights + "\"; allowed are null and \"zero\"");
}
inline PrefixTuningConfig resolved(PrefixTuningConfig config, std::string_view) {
  validate(config);
  return config;
}

}  // namespace peft
