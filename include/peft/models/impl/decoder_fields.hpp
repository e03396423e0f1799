// SPDX-License-Identifier: Apache-2.0
#pragma once

// Decoders whose configuration has Llama's keys: what is common to them is read and written here. Included by .inl files alone.

#include "peft/models/config.hpp"
#include "peft/models/impl/gguf_fields.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft::detail {

/// What an absent key means; classes differ in it.
struct DecoderDefaults {
  std::int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  std::int64_t num_key_value_heads = 0;  // 0: as many as heads
  std::int64_t head_dim = 0;             // 0: hidden_size / heads
  const char* hidden_act = "silu";
  bool tied = false;
  double partial_rotary_factor = 0;  // 0: whole heads turn, and anything else is refused
};

/// Grouped queries, rotary positions, RMS norms, a gated MLP, no biases; the architecture changes what is particular to it.
inline TransformerConfig decoder_from_json(const Json& json, const char* model_type, const DecoderDefaults& defaults) {
  const ConfigFields f(json);
  TransformerConfig c;
  c.model_type = model_type;
  for (const char* key : {"quantization_config", "num_local_experts", "num_experts", "n_routed_experts"}) refuse_other(f, key, Json());
  c.vocab_size = f.integer("vocab_size"), c.hidden_size = f.integer("hidden_size"), c.num_hidden_layers = f.integer("num_hidden_layers");
  c.max_position_embeddings = f.integer("max_position_embeddings", defaults.max_position_embeddings);
  c.norm = {NormKind::rms, f.number("rms_norm_eps", defaults.rms_norm_eps), 0};
  AttentionConfig& a = c.attention;
  a.num_attention_heads = f.integer("num_attention_heads");
  a.num_key_value_heads = f.integer("num_key_value_heads", defaults.num_key_value_heads > 0 ? defaults.num_key_value_heads : a.num_attention_heads);
  a.head_dim = f.find("head_dim") ? f.integer("head_dim") : defaults.head_dim > 0 ? defaults.head_dim : head_dim(c);
  a.rope = rope_config(json, defaults.partial_rotary_factor > 0 ? defaults.partial_rotary_factor : 1);
  if (defaults.partial_rotary_factor == 0 && a.rope->partial_rotary_factor != 1)
    throw NotSupported("config", "partial_rotary_factor " + Json(a.rope->partial_rotary_factor).dump() + " is not supported; supported is 1.0");
  c.mlp = {MlpKind::gated, activation_named("hidden_act", f.string("hidden_act", defaults.hidden_act)), f.integer("intermediate_size"), false};
  c.head.tied = f.boolean("tie_word_embeddings", defaults.tied);
  c.head.task = task_type(json, TaskType::causal_lm);
  read_labels(json, c.head);
  if (c.head.task == TaskType::seq_cls) c.head.pooling = Pooling::last;
  c.head.bias = c.head.task == TaskType::token_cls;
  read_token_ids(json, c);
  return c;
}

/// The keys that decoder_from_json reads.
inline Json decoder_to_json(const TransformerConfig& c, const std::string& class_name, double partial_rotary_factor = 1) {
  Json j = common_json(c, class_name);
  j.set("hidden_size", Json(c.hidden_size)), j.set("num_hidden_layers", Json(c.num_hidden_layers));
  j.set("intermediate_size", Json(c.mlp.intermediate_size)), j.set("max_position_embeddings", Json(c.max_position_embeddings));
  j.set("num_attention_heads", Json(c.attention.num_attention_heads)), j.set("num_key_value_heads", Json(c.attention.num_key_value_heads));
  j.set("head_dim", Json(c.attention.head_dim)), j.set("hidden_act", Json(name_of(c.mlp.activation))), j.set("rms_norm_eps", Json(c.norm.eps));
  if (c.attention.rope) set_rope(j, *c.attention.rope, partial_rotary_factor);
  return j;
}

/// The same from GGUF's keys, of any architecture that has these.
inline TransformerConfig decoder_from_gguf(const GgufFile& file, const char* architecture) {
  const GgufFields f(file, architecture);
  TransformerConfig c;
  c.model_type = architecture;
  c.name = f.text("general.name", "");
  if (const std::int64_t experts = f.integer("expert_count", 0); experts != 0)
    throw NotSupported("config", "expert_count " + std::to_string(experts) + " is not supported; supported is 0");
  c.hidden_size = f.integer("embedding_length"), c.num_hidden_layers = f.integer("block_count");
  c.max_position_embeddings = f.integer("context_length", 2048);
  c.norm = {NormKind::rms, f.number("attention.layer_norm_rms_epsilon"), 0};
  AttentionConfig& a = c.attention;
  a.num_attention_heads = f.integer("attention.head_count");
  a.num_key_value_heads = f.integer("attention.head_count_kv", a.num_attention_heads);
  a.head_dim = f.find("attention.key_length") ? f.integer("attention.key_length") : head_dim(c);
  if (const std::int64_t value = f.integer("attention.value_length", a.head_dim); value != a.head_dim)
    throw NotSupported("config",
                       "attention.value_length " + std::to_string(value) + " besides a key_length of " + std::to_string(a.head_dim) + " is not supported");
  a.rope = gguf_rope_config(f, a.head_dim);
  c.mlp = {MlpKind::gated, Activation::silu, f.integer("feed_forward_length"), false};
  c.vocab_size = f.vocabulary();
  c.head.tied = !f.has_tensor("output.weight");
  read_gguf_token_ids(f, c);
  return c;
}

/// layer_types: which layers see a window alone.
inline std::vector<bool> sliding_layers(const Json& types) {
  if (!types.is_array()) throw ConfigError("config", "layer_types is " + types.dump() + "; a list is wanted");
  std::vector<bool> sliding;
  for (const Json& type : types.array()) {
    const std::string text = named_field("layer_types", [&] { return std::string(type.string()); });
    if (text != "full_attention" && text != "sliding_attention")
      throw NotSupported("config", "layer_types \"" + text + "\" is not supported; supported are full_attention, sliding_attention");
    sliding.push_back(text == "sliding_attention");
  }
  return sliding;
}
inline Json layer_types_json(const TransformerConfig& c) {
  Json types = Json::make_array();
  for (std::int64_t l = 0; l < c.num_hidden_layers; l++) types.push_back(Json(c.attention.window(l) > 0 ? "sliding_attention" : "full_attention"));
  return types;
}

/// use_sliding_window, max_window_layers and layer_types: which layers see a window alone.
inline void read_sliding_layers(const Json& json, TransformerConfig& c) {
  const ConfigFields f(json);
  if (const Json* types = f.find("layer_types")) {
    c.attention.sliding_layers = sliding_layers(*types);
  } else {
    for (std::int64_t l = 0; l < std::min<std::int64_t>(c.num_hidden_layers, 1 << 12); l++)
      c.attention.sliding_layers.push_back(l >= f.integer("max_window_layers", 28));
  }
  if (f.boolean("use_sliding_window", false)) c.attention.sliding_window = f.integer("sliding_window", 4096);
}
inline void set_sliding_layers(Json& j, const TransformerConfig& c) {
  const AttentionConfig& a = c.attention;
  j.set("use_sliding_window", Json(a.sliding_window > 0)), j.set("sliding_window", a.sliding_window > 0 ? Json(a.sliding_window) : Json());
  j.set("layer_types", layer_types_json(c));
}

}  // namespace peft::detail
