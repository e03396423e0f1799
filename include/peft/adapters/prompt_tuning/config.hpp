// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// Prompt tuning's options, named and defaulted as PEFT's PromptTuningConfig.
struct PromptTuningConfig {
  static constexpr const char* peft_type = "PROMPT_TUNING";
  std::int64_t num_virtual_tokens = 20;
  std::string prompt_tuning_init = "RANDOM";                // RANDOM | SAMPLE_VOCAB: rows of the embedding | TEXT: needs init_ids
  std::optional<std::string> prompt_tuning_init_text = {};  // what a TEXT prompt began as
  std::vector<std::int64_t> init_ids = {};                  // its tokens, repeated or cut to num_virtual_tokens; not in a file
  std::int64_t token_dim = 0;                               // 0: the model's; so are the next three
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
    field("prompt_tuning_init", self.prompt_tuning_init);
    field("prompt_tuning_init_text", self.prompt_tuning_init_text);
    field.keep("tokenizer_name_or_path", "null");
    field.keep("tokenizer_kwargs", "null");
    field("modules_to_save", self.modules_to_save);
    field.own("token_template", self.token_template);
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const PromptTuningConfig& c) {
  detail::check_positive("PromptTuningConfig", "num_virtual_tokens", c.num_virtual_tokens);
  detail::check_token_template("PromptTuningConfig", c);
  detail::check_choice("PromptTuningConfig", "prompt_tuning_init", c.prompt_tuning_init, {"RANDOM", "SAMPLE_VOCAB", "TEXT"});
}
inline PromptTuningConfig resolved(PromptTuningConfig config, std::string_view) {
  validate(config);
  return config;
}

}  // namespace peft
