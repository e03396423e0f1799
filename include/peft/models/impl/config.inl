// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/config.hpp"
#include "peft/models/llama.hpp"

namespace peft {

PEFT_INLINE std::span<const Architecture> architectures() {
  static const std::array<Architecture, 1> all = {llama_architecture()};
  return all;
}

namespace detail {
PEFT_INLINE std::vector<std::string> architecture_names(bool gguf) {
  std::vector<std::string> names;
  for (const Architecture& a : architectures())
    if (!gguf || a.gguf) names.emplace_back(gguf ? a.gguf : a.model_type);
  return names;
}
}  // namespace detail

PEFT_INLINE const Architecture& architecture_of_model_type(std::string_view model_type) {
  for (const Architecture& a : architectures())
    if (model_type == a.model_type) return a;
  throw NotSupported("load_model", "model_type \"" + std::string(model_type) + "\" is not supported" +
                                       did_you_mean(model_type, detail::architecture_names(false), "supported are"));
}

PEFT_INLINE const Architecture& architecture_of_gguf(std::string_view name) {
  for (const Architecture& a : architectures())
    if (a.gguf && name == a.gguf) return a;
  throw NotSupported("load_model", "general.architecture \"" + std::string(name) + "\" is not supported" +
                                       did_you_mean(name, detail::architecture_names(true), "supported are"));
}

PEFT_INLINE void validate(const TransformerConfig& c) {
  const auto within = [](const char* key, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (value < low || value > high)
      throw ConfigError("config", std::string(key) + " is " + std::to_string(value) + "; allowed are " + std::to_string(low) + " … " + std::to_string(high));
  };
  within("vocab_size", c.vocab_size, 1, 1 << 28);
  within("hidden_size", c.hidden_size, 1, 1 << 20);
  within("num_hidden_layers", c.num_hidden_layers, 1, 1 << 12);
  within("intermediate_size", c.mlp.intermediate_size, 1, 1 << 22);
  const AttentionConfig& a = c.attention;
  within("num_attention_heads", a.num_attention_heads, 1, 1 << 12);
  within("num_key_value_heads", a.num_key_value_heads, 1, a.num_attention_heads);
  within("head_dim", a.head_dim, 1, 1 << 14);
  if (a.num_attention_heads % a.num_key_value_heads)
    throw ConfigError("config", "num_key_value_heads " + std::to_string(a.num_key_value_heads) + " does not divide num_attention_heads " +
                                    std::to_string(a.num_attention_heads));
  if (a.rope && a.head_dim % 2) throw ConfigError("config", "head_dim " + std::to_string(a.head_dim) + " is odd; rotary positions turn pairs");
  if (a.rope && !(a.rope->theta > 0)) throw ConfigError("config", "rope_theta is " + std::to_string(a.rope->theta) + "; a positive number is wanted");
  if (a.rope && !(a.rope->factor > 0))
    throw ConfigError("config", "the rope scaling factor is " + std::to_string(a.rope->factor) + "; a positive number is wanted");
  if (!(c.norm.eps >= 0 && c.norm.eps < 1)) throw ConfigError("config", "the norm's epsilon is " + std::to_string(c.norm.eps) + "; allowed is 0 ≤ ε < 1");
}

PEFT_INLINE std::string tensor_name(std::string_view pattern, std::int64_t layer) {
  std::string name(pattern);
  if (const std::size_t at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(layer));
  return name;
}

}  // namespace peft
