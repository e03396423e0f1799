// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// BOFT's options, named and defaulted as PEFT's BOFTConfig.
struct BOFTConfig {
  static constexpr const char* peft_type = "BOFT";
  std::int64_t boft_block_size = 4;          // or 0, and
  std::int64_t boft_block_num = 0;           // the number of blocks
  std::int64_t boft_n_butterfly_factor = 1;  // products of block rotations, each with blocks of its own
  double boft_dropout = 0;                   // the share of one factor's blocks that turn nothing, in training
  bool init_weights = true;                  // begin at the identity
  TargetModules target_modules = {};         // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("boft_block_size", self.boft_block_size);
    field("boft_block_num", self.boft_block_num);
    field("init_weights", self.init_weights);
    field("boft_n_butterfly_factor", self.boft_n_butterfly_factor);
    field("boft_dropout", self.boft_dropout);
    field.keep("fan_in_fan_out", "false");
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const BOFTConfig& c) {
  if ((c.boft_block_size > 0) == (c.boft_block_num > 0) || c.boft_block_size < 0 || c.boft_block_num < 0)
    detail::refuse("BOFTConfig", "boft_block_size is " + std::to_string(c.boft_block_size) + " and boft_block_num is " + std::to_string(c.boft_block_num) +
                                     "; one of them is to be 0, the other at least 1");
  if (c.boft_n_butterfly_factor < 1 || c.boft_n_butterfly_factor > 32)
    detail::refuse("BOFTConfig", "boft_n_butterfly_factor is " + std::to_string(c.boft_n_butterfly_factor) + "; allowed are 1 to 32");
  detail::check_probability("BOFTConfig", "boft_dropout", c.boft_dropout);
  detail::check_layers("BOFTConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline BOFTConfig resolved(BOFTConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
