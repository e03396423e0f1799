// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// OFT's options, named and defaulted as PEFT's OFTConfig.
struct OFTConfig {
  static constexpr const char* peft_type = "OFT";
  std::int64_t r = 0;                // number of blocks, or
  std::int64_t oft_block_size = 32;  // their size: one of both is 0
  bool block_share = false;          // one rotation for all blocks
  bool use_cayley_neumann = true;    // the series instead of the inverse
  std::int64_t num_cayley_neumann_terms = 5;
  bool coft = false;  // Q stays near 0: ‖Q‖ ≤ eps / √blocks in each block
  double eps = 6e-5;
  bool init_weights = true;           // begin at the identity
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field("oft_block_size", self.oft_block_size);
    field("block_share", self.block_share);
    field("use_cayley_neumann", self.use_cayley_neumann);
    field("num_cayley_neumann_terms", self.num_cayley_neumann_terms);
    field("init_weights", self.init_weights);
    field("coft", self.coft);
    field("eps", self.eps);
    field.keep("module_dropout", "0.0");  // which PEFT never applies
    field.keep("fan_in_fan_out", "false");
    field.only("bias", "\"none\"");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const OFTConfig& c) {
  if ((c.r > 0) == (c.oft_block_size > 0) || c.r < 0 || c.oft_block_size < 0)
    detail::refuse("OFTConfig", "r is " + std::to_string(c.r) + " and oft_block_size is " + std::to_string(c.oft_block_size) +
                                    "; one of them is to be 0, the other at least 1");
  if (c.num_cayley_neumann_terms < 1 || c.num_cayley_neumann_terms > 64)
    detail::refuse("OFTConfig", "num_cayley_neumann_terms is " + std::to_string(c.num_cayley_neumann_terms) + "; allowed are 1 to 64");
  if (!(c.eps > 0 && std::isfinite(c.eps))) detail::refuse("OFTConfig", "eps is " + std::to_string(c.eps) + "; what is above 0 is wanted");
  detail::check_layers("OFTConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline OFTConfig resolved(OFTConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
