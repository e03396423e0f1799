// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// Options of multitask prompt tuning, named and defaulted as PEFT's MultitaskPromptTuningConfig.
struct MultitaskPromptTuningConfig {
  static constexpr const char* peft_type = "MULTITASK_PROMPT_TUNING";
  std::int64_t num_virtual_tokens = 20;
  std::int64_t num_ranks = 1;
  std::int64_t num_tasks = 1;
  std::int64_t token_dim = 0;  // 0: the model's; so are the next three
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
    field("num_ranks", self.num_ranks);
    field("num_tasks", self.num_tasks);
    field.keep("prompt_tuning_init", "\"RANDOM\"");
    field.keep("prompt_tuning_init_state_dict_path", "null");
    field.keep("prompt_tuning_init_task", "0");
    field.keep("prompt_tuning_init_text", "null");
    field.keep("tokenizer_name_or_path", "null");
    field.keep("tokenizer_kwargs", "null");
    field("modules_to_save", self.modules_to_save);
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const MultitaskPromptTuningConfig& c) {
  detail::check_positive("MultitaskPromptTuningConfig", "num_virtual_tokens", c.num_virtual_tokens);
  detail::check_rank("MultitaskPromptTuningConfig", "num_ranks", c.num_ranks);
  detail::check_positive("MultitaskPromptTuningConfig", "num_tasks", c.num_tasks);
}
inline MultitaskPromptTuningConfig resolved(MultitaskPromptTuningConfig config, std::string_view) {
  validate(config);
  return config;
}

}  // namespace peft
