// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/config_fields.hpp"

namespace peft {

/// LoKr's options, named and defaulted as PEFT's LoKrConfig.
struct LoKrConfig {
  static constexpr const char* peft_type = "LOKR";
  std::int64_t r = 8;
  double alpha = 8;
  bool decompose_both = false;         // the left factor is low-rank, too
  std::int64_t decompose_factor = -1;  // of the split of out and in; -1: near the root
  Toggle init_weights = true;          // false: at random; "lycoris": the right factor begins at 0
  double rank_dropout = 0;             // of rows of Δ
  double module_dropout = 0;           // of all of Δ
  bool rank_dropout_scale = false;     // the rows that are left are divided by their share
  Patterns<std::int64_t> rank_pattern = {};
  Patterns<double> alpha_pattern = {};
  TargetModules target_modules = {};  // nothing: PEFT's default for the architecture
  TargetModules exclude_modules = {};
  std::vector<std::int64_t> layers_to_transform = {};  // only these layers
  std::vector<std::string> layers_pattern = {};        // what the list of layers is called in a path, if not found by itself
  std::vector<std::string> modules_to_save = {};       // these train as a whole, as copies of their own
  std::string task_type = "CAUSAL_LM";

  static void describe(auto& self, auto&& field) {
    detail::describe_targets(self, field);
    field("r", self.r);
    field.whole("alpha", self.alpha);
    field("decompose_both", self.decompose_both);
    field("decompose_factor", self.decompose_factor);
    field("init_weights", self.init_weights);
    field("rank_pattern", self.rank_pattern);
    field.whole("alpha_pattern", self.alpha_pattern);
    field("rank_dropout_scale", self.rank_dropout_scale);
    field("rank_dropout", self.rank_dropout);
    field("module_dropout", self.module_dropout);
    field.keep("use_effective_conv2d", "false");
  }
};

/// Throws ConfigError naming the field, its value and what is allowed.
inline void validate(const LoKrConfig& c) {
  detail::check_rank("LoKrConfig", "r", c.r);
  for (const auto& [pattern, r] : c.rank_pattern) detail::check_rank("LoKrConfig", "rank_pattern[\"" + pattern + "\"]", r);
  detail::check_finite("LoKrConfig", "alpha", c.alpha);
  detail::check_probability("LoKrConfig", "rank_dropout", c.rank_dropout);
  detail::check_probability("LoKrConfig", "module_dropout", c.module_dropout);
  if (c.decompose_factor != -1 && c.decompose_factor < 1)
    detail::refuse("LoKrConfig", "decompose_factor is " + std::to_string(c.decompose_factor) + "; allowed are -1 and what is at least 1");
  if (!c.init_weights.name.empty()) detail::check_choice("LoKrConfig", "init_weights", c.init_weights.name, {"lycoris"});
  detail::check_layers("LoKrConfig", c.target_modules, c.layers_to_transform, c.layers_pattern);
}
inline LoKrConfig resolved(LoKrConfig config, std::string_view model_type) {
  validate(config);
  return detail::with_default_targets(std::move(config), model_type);
}

}  // namespace peft
