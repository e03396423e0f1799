// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the readers of configurations share: fields with defaults, rope in the spellings that exist, token ids. Included by .inl files alone.

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "peft/nn/transformer.hpp"

namespace peft::detail {

/// Names the field in what its value throws.
template <class F>
auto named_field(const char* key, F f) {
  try {
    return f();
  } catch (const Error& error) {
    throw ConfigError("config", std::string(key) + ": " + error.what());
  }
}

/// Fields of a config.json; a null field counts as absent.
class ConfigFields {
 public:
  explicit ConfigFields(const Json& json) : json_(json) {}
  const Json* find(const char* key) const {
    const Json* value = json_.get(key);
    return value && !value->is_null() ? value : nullptr;
  }
  std::int64_t integer(const char* key) const {
    if (const Json* value = find(key)) return named_field(key, [&] { return value->integer(); });
    throw ConfigError("config", std::string(key) + " is missing");
  }
  std::int64_t integer(const char* key, std::int64_t otherwise) const { return find(key) ? integer(key) : otherwise; }
  double number(const char* key) const {
    if (const Json* value = find(key)) return named_field(key, [&] { return value->number(); });
    throw ConfigError("config", std::string(key) + " is missing");
  }
  double number(const char* key, double otherwise) const { return find(key) ? number(key) : otherwise; }
  bool boolean(const char* key, bool otherwise) const {
    const Json* value = find(key);
    return value ? named_field(key, [&] { return value->boolean(); }) : otherwise;
  }
  std::string string(const char* key, const char* otherwise) const {
    const Json* value = find(key);
    return value ? named_field(key, [&] { return std::string(value->string()); }) : otherwise;
  }

 private:
  const Json& json_;
};

/// An option that changes the result and is not done here: anything but absent or its default is refused.
inline void refuse_other(const ConfigFields& f, const char* key, const Json& only) {
  if (const Json* value = f.find(key); value && !(*value == only))
    throw NotSupported("config", std::string(key) + " " + value->dump() + " is not supported; supported is " + only.dump());
}

inline std::int64_t head_dim(const TransformerConfig& c) {
  const std::int64_t heads = c.attention.num_attention_heads;
  if (heads < 1) throw ConfigError("config", "num_attention_heads is " + std::to_string(heads) + "; at least 1 is wanted");
  if (c.hidden_size % heads)
    throw ConfigError("config", "num_attention_heads " + std::to_string(heads) + " does not divide hidden_size " + std::to_string(c.hidden_size) +
                                    ", and there is no head_dim");
  return c.hidden_size / heads;
}

inline Activation activation_named(const char* key, const std::string& name) {
  static const std::array<std::pair<const char*, Activation>, 8> known = {{{"silu", Activation::silu},
                                                                           {"swish", Activation::silu},
                                                                           {"gelu", Activation::gelu},
                                                                           {"gelu_new", Activation::gelu_tanh},
                                                                           {"gelu_pytorch_tanh", Activation::gelu_tanh},
                                                                           {"gelu_fast", Activation::gelu_tanh},
                                                                           {"relu", Activation::relu},
                                                                           {"tanh", Activation::tanh}}};
  std::vector<std::string> names;
  for (const auto& [text, value] : known) {
    if (name == text) return value;
    names.emplace_back(text);
  }
  throw NotSupported("config", std::string(key) + " \"" + name + "\" is not supported" + did_you_mean(name, names, "supported are"));
}

/// Rotary positions as transformers 5 (`rope_parameters`) and older versions (`rope_theta`, `rope_scaling`) write them.
inline RopeConfig rope_config(const Json& json) {
  const ConfigFields f(json);
  RopeConfig rope;
  rope.theta = f.number("rope_theta", 10000);
  const Json* block = f.find("rope_parameters");
  if (!block) block = f.find("rope_scaling");
  if (!block) return rope;
  if (!block->is_object()) throw ConfigError("config", "rope_parameters (or rope_scaling) is " + block->dump() + "; an object is wanted");
  const ConfigFields r(*block);
  refuse_other(r, "partial_rotary_factor", Json(1.0));
  rope.theta = r.number("rope_theta", rope.theta);
  const std::string type = r.string("rope_type", r.string("type", "default").c_str());
  if (type == "default") return rope;
  if (type == "linear") {
    rope.scaling = RopeScaling::linear;
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::llama3;
    rope.low_freq_factor = r.number("low_freq_factor"), rope.high_freq_factor = r.number("high_freq_factor");
    rope.original_max_position_embeddings = r.integer("original_max_position_embeddings", f.integer("max_position_embeddings", 8192));
    if (!(rope.high_freq_factor > rope.low_freq_factor))
      throw ConfigError("config", "high_freq_factor " + std::to_string(rope.high_freq_factor) + " must be larger than low_freq_factor " +
                                      std::to_string(rope.low_freq_factor));
    if (rope.original_max_position_embeddings < 1)
      throw ConfigError("config", "original_max_position_embeddings is " + std::to_string(rope.original_max_position_embeddings) + "; at least 1 is wanted");
  } else {
    const std::array<std::string, 3> known = {"default", "linear", "llama3"};
    throw NotSupported("config", "rope_type \"" + type + "\" is not supported" + did_you_mean(type, known, "supported are"));
  }
  rope.factor = r.number("factor");
  return rope;
}

inline std::vector<std::int32_t> token_ids(const Json& json, const char* key) {
  const Json* value = ConfigFields(json).find(key);
  std::vector<std::int32_t> ids;
  const auto add = [&](const Json& id) {
    const std::int64_t n = named_field(key, [&] { return id.integer(); });
    if (!std::in_range<std::int32_t>(n)) throw ConfigError("config", std::string(key) + " is " + std::to_string(n) + ", which is no token id");
    ids.push_back(std::int32_t(n));
  };
  if (value && value->is_array())
    std::ranges::for_each(value->array(), add);
  else if (value)
    add(*value);
  return ids;
}
inline void read_token_ids(const Json& json, TransformerConfig& c) {
  c.pad_token_id = ConfigFields(json).integer("pad_token_id", -1);
  c.bos_token_ids = token_ids(json, "bos_token_id"), c.eos_token_ids = token_ids(json, "eos_token_id");
}

}  // namespace peft::detail
