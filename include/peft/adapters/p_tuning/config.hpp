// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// P-Tuning's options, named and defaulted as PEFT's PromptEncoderConfig.
struct PromptEncoderConfig {
  static constexpr const char* peft_type = "P_TUNING";
  std::int64_t num_virtual_tokens = 20;
  std::string encoder_reparameterization_type = "MLP";  // MLP | LSTM
  std::int64_t encoder_hidden_size = 0;                 // 0: token_dim
  std::int64_t encoder_num_layers = 2;                  // of the LSTM
  double encoder_dropout = 0;                           // between the LSTM's layers
  std::int64_t token_dim = 0;                           // 0: the model's; so are the next three
  std::int64_t num_transformer_submodules = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_layers = 0;
  std::vector<std::string> modules_to_save = {};  // these train as a whole, as copies of their own: a classifier
  std::string token_template = {};                // where the virtual tokens stand (parse_token_template); nothing: in front of a sequence
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    field("num_virtual_tokens", self.num_virtual_tokens);
    field("token_dim", self.token_dim);
    field("num_transformer_submodules", self.num_transformer_submodules);
    field("num_attention_heads", self.num_attention_heads);
    field("num_layers", self.num_layers);
    field("encoder_reparameterization_type", self.encoder_reparameterization_type);
    field("encoder_hidden_size", self.encoder_hidden_size);
    field("encoder_num_layers", self.encoder_num_layers);
    field("encoder_dropout", self.encoder_dropout);
    field("modules_to_save", self.modules_to_save);
    field.own("token_template", self.token_template);
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const PromptEncoderConfig& c) {
  detail::check_positive("PromptEncoderConfig", "num_virtual_tokens", c.num_virtual_tokens);
  detail::check_token_template("PromptEncoderConfig", c);
  detail::check_choice("PromptEncoderConfig", "encoder_reparameterization_type", c.encoder_reparameterization_type, {"MLP", "LSTM"});
  if (c.encoder_num_layers < 1 || c.encoder_num_layers > 64)
    detail::refuse("PromptEncoderConfig", "encoder_num_layers is " + std::to_string(c.encoder_num_layers) + "; allowed are 1 to 64");
  detail::check_probability("PromptEncoderConfig", "encoder_dropout", c.encoder_dropout);
}
inline PromptEncoderConfig resolved(PromptEncoderConfig config, std::string_view) {
  validate(config);
  return config;
}

}  // namespace peft
