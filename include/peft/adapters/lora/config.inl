// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "peft/adapters/lora/config.hpp"
#include "peft/ops/quantized.hpp"

namespace peft {

PEFT_INLINE InitLoraWeights::InitLoraWeights(const std::string& name) : kind_(zero_b) {
  const std::array<std::string, 8> known = {"true", "false", "gaussian", "orthogonal", "pissa", "olora", "loftq_nf4", "eva"};
  // corda, lora_ga and loftq change the base in a way that a loader cannot repeat.
  const std::array<std::string_view, 4> changes_base = {"corda", "lora_ga", "loftq", "kasa"};
  if (std::ranges::find(changes_base, name) != changes_base.end() || name.starts_with("pissa_niter"))
    throw NotSupported("LoraConfig", "init_lora_weights \"" + name +
                                         "\" belongs to a base whose weights were changed when the adapter began, which is not supported; save the "
                                         "adapter with PEFT's path_initial_model_for_weight_conversion, which makes an ordinary LoRA of it" +
                                         (name == "loftq" ? "; to begin one here, say loftq_nf4" : ""));
  if (name == "mica") throw NotSupported("LoraConfig", "init_lora_weights \"mica\", of which A alone trains");
  if (name == "gaussian")
    kind_ = gaussian;
  else if (name == "pissa")
    kind_ = pissa;
  else if (name == "olora")
    kind_ = olora;
  else if (name.starts_with("loftq_"))
    set_loftq(name);
  else if (name == "eva")
    kind_ = eva;
  else if (name == "orthogonal")
    kind_ = orthogonal;
  else if (name == "false")
    kind_ = random;
  else if (name != "true")
    throw ConfigError("LoraConfig", "init_lora_weights \"" + name + "\" is not known" + did_you_mean(name, known, "known here"));
}

PEFT_INLINE void InitLoraWeights::set_loftq(const std::string& name) {
  const std::string rest = name.substr(6), marker = "_niter_";
  const std::size_t at = rest.find(marker);
  kind_ = loftq, quantize_ = ops::quantizable_named("LoraConfig", "init_lora_weights loftq_ with the type", rest.substr(0, at));
  if (at == rest.npos) return;
  const std::string count = rest.substr(at + marker.size());
  if (count.empty() || count.size() > 3 || count.find_first_not_of("0123456789") != count.npos || std::stoi(count) < 1)
    throw ConfigError("LoraConfig", "init_lora_weights \"" + name + "\"; behind _niter_ stands a number from 1 to 999");
  iterations_ = std::stoi(count);
}

PEFT_INLINE Toggle InitLoraWeights::toggle() const {
  switch (kind_) {
    case gaussian:
      return "gaussian";
    case orthogonal:
      return "orthogonal";
    case pissa:
      return "pissa";
    case olora:
      return "olora";
    case loftq:
      return "loftq_" + ops::lower_name(quantize_) + (iterations_ > 1 ? "_niter_" + std::to_string(iterations_) : "");
    case eva:
      return "eva";
    case random:
      return false;
    default:
      return true;
  }
}

PEFT_INLINE void validate(const LoraConfig& c) {
  const auto refuse = [](const std::string& text) { throw ConfigError("LoraConfig", text); };
  const auto rank = [&](const std::string& what, std::int64_t r) {
    if (r < 1) refuse(what + " is " + std::to_string(r) + "; a rank of at least 1 is wanted");
    if (r > 65536) refuse(what + " is " + std::to_string(r) + "; more than 65,536 is no low rank");
  };
  rank("r", c.r);
  for (const auto& [pattern, r] : c.rank_pattern) rank("rank_pattern[\"" + pattern + "\"]", r);
  if (!std::isfinite(c.lora_alpha)) refuse("lora_alpha is not finite");
  for (const auto& [pattern, alpha] : c.alpha_pattern)
    if (!std::isfinite(alpha)) refuse("alpha_pattern[\"" + pattern + "\"] is not finite");
  if (!(c.lora_dropout >= 0 && c.lora_dropout < 1)) refuse("lora_dropout is " + std::to_string(c.lora_dropout) + "; allowed is 0 ≤ p < 1");
  const std::array<std::string, 3> biases = {"none", "all", "lora_only"};
  if (std::ranges::find(biases, c.bias) == biases.end()) refuse("bias \"" + c.bias + "\"" + did_you_mean(c.bias, biases, "allowed are"));
  if (!c.layers_to_transform.empty() && !c.target_modules.empty() && !c.target_modules.is_list())
    refuse("layers_to_transform goes with a list of target_modules, not with the pattern \"" + c.target_modules.pattern() + "\"");
  if (!c.layers_pattern.empty() && c.layers_to_transform.empty()) refuse("layers_pattern without layers_to_transform");
  const bool on_residual = c.init_lora_weights.changes_base();
  if (c.lora_bias && c.use_dora) refuse("lora_bias = true does not go with use_dora = true");
  if (on_residual && (c.lora_bias || c.use_dora))
    refuse("init_lora_weights \"" + c.init_lora_weights.toggle().name + "\" goes with neither lora_bias nor use_dora");
  if (c.bias != "none" && (c.lora_bias || c.use_dora || on_residual))
    throw NotSupported("LoraConfig", "bias \"" + c.bias + "\" together with lora_bias, use_dora, pissa, olora or loftq");
  for (const auto& [module, ids] : c.trainable_token_indices)
    if (ids.empty())
      refuse("trainable_token_indices names no token" + (module.empty() ? "" : " for \"" + module + "\""));
    else if (std::ranges::find(c.modules_to_save, module) != c.modules_to_save.end())
      refuse("trainable_token_indices of \"" + module + "\", all of which modules_to_save trains");
}

PEFT_INLINE LoraScale lora_scale(const LoraConfig& config, std::string_view path) {
  LoraScale s{config.r, config.lora_alpha, 0};
  if (const auto* r = detail::find_pattern("rank_pattern", config.rank_pattern, path)) s.r = *r;
  if (const auto* alpha = detail::find_pattern("alpha_pattern", config.alpha_pattern, path)) s.alpha = *alpha;
  s.scaling = s.alpha / (config.use_rslora ? std::sqrt(double(s.r)) : double(s.r));
  return s;
}

}  // namespace peft
