// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "peft/models/gemma.hpp"
#include "peft/models/impl/decoder_fields.hpp"

namespace peft {

namespace detail {

inline void make_gemma(TransformerConfig& c) {
  c.embedding.scale = std::sqrt(double(c.hidden_size));
  c.norm.offset = 1;
}

inline TransformerConfig gemma_from_json_as(const Json& json, const char* model_type) {
  const ConfigFields f(json);
  TransformerConfig c =
      decoder_from_json(json, model_type, {.max_position_embeddings = 8192, .head_dim = 256, .hidden_act = "gelu_pytorch_tanh", .tied = true});
  if (f.find("hidden_activation")) c.mlp.activation = activation_named("hidden_activation", f.string("hidden_activation", ""));
  if (f.boolean("use_bidirectional_attention", false)) refuse_other(f, "use_bidirectional_attention", Json(false));
  c.attention.qkv_bias = c.attention.o_bias = f.boolean("attention_bias", false);
  make_gemma(c);
  return c;
}
inline Json gemma_to_json_as(const TransformerConfig& c, const char* class_name) {
  Json j = decoder_to_json(c, class_name);
  j.set("attention_bias", Json(c.attention.qkv_bias)), j.set("hidden_activation", Json(name_of(c.mlp.activation)));
  return j;
}
inline TransformerConfig gemma_from_gguf_as(const GgufFile& file, const char* architecture) {
  TransformerConfig c = decoder_from_gguf(file, architecture);
  c.mlp.activation = Activation::gelu_tanh;
  make_gemma(c);
  return c;
}
PEFT_INLINE TransformerConfig gemma_from_json(const Json& json) { return gemma_from_json_as(json, "gemma"); }
PEFT_INLINE Json gemma_to_json(const TransformerConfig& c) { return gemma_to_json_as(c, "Gemma"); }
PEFT_INLINE TransformerConfig gemma_from_gguf(const GgufFile& file) { return gemma_from_gguf_as(file, "gemma"); }

// What Gemma 2 has besides; caps of 0 are none.
inline void make_gemma2(TransformerConfig& c, double score_cap, double logit_cap) {
  c.norm_placement = NormPlacement::around;
  c.attention.softcap = score_cap;
  if (c.head.is_language_model()) c.head.softcap = logit_cap;  // transformers leaves the scores of classes as they are
  if (c.attention.sliding_layers.empty())
    for (std::int64_t l = 0; l < std::min<std::int64_t>(c.num_hidden_layers, 1 << 12); l++) c.attention.sliding_layers.push_back(l % 2 == 0);
}

PEFT_INLINE TransformerConfig gemma2_from_json(const Json& json) {
  const ConfigFields f(json);
  TransformerConfig c = gemma_from_json_as(json, "gemma2");
  // Absent is the class's own default; null is none.
  const auto number = [&](const char* key, double otherwise) {
    const double value = json.get(key) ? f.number(key, 0) : otherwise;
    if (!(value >= 0)) throw ConfigError("config", std::string(key) + " is " + std::to_string(value) + "; a positive number or null is wanted");
    return value;
  };
  const double score_cap = number("attn_logit_softcapping", 50), logit_cap = number("final_logit_softcapping", 30);
  const double scalar = f.number("query_pre_attn_scalar", 256);
  if (!(scalar > 0)) throw ConfigError("config", "query_pre_attn_scalar is " + std::to_string(scalar) + "; a positive number is wanted");
  c.attention.scale = 1 / std::sqrt(scalar);
  c.attention.sliding_window = json.get("sliding_window") ? f.integer("sliding_window", 0) : 4096;
  if (const Json* types = f.find("layer_types")) c.attention.sliding_layers = sliding_layers(*types);
  make_gemma2(c, score_cap, logit_cap);
  return c;
}
PEFT_INLINE Json gemma2_to_json(const TransformerConfig& c) {
  Json j = gemma_to_json_as(c, "Gemma2");
  const auto positive = [](double value) { return value > 0 ? Json(value) : Json(); };
  const double scalar = c.attention.scale > 0 ? 1 / (c.attention.scale * c.attention.scale) : double(c.attention.head_dim), whole = std::round(scalar);
  // An integer in transformers.
  j.set("query_pre_attn_scalar", std::abs(scalar - whole) < 1e-9 * whole ? Json(std::int64_t(whole)) : Json(scalar));
  j.set("attn_logit_softcapping", positive(c.attention.softcap));
  // A head that classifies has no cap, and its model's language model is not known.
  if (c.head.is_language_model()) j.set("final_logit_softcapping", positive(c.head.softcap));
  j.set("sliding_window", c.attention.sliding_window > 0 ? Json(c.attention.sliding_window) : Json());
  j.set("layer_types", layer_types_json(c));
  return j;
}
PEFT_INLINE TransformerConfig gemma2_from_gguf(const GgufFile& file) {
  TransformerConfig c = gemma_from_gguf_as(file, "gemma2");
  const GgufFields f(file, "gemma2");
  c.attention.scale = gguf_gemma2_scale(c);
  c.attention.sliding_window = f.integer("attention.sliding_window", 4096);
  make_gemma2(c, f.number("attn_logit_softcapping", 50), f.number("final_logit_softcapping", 30));
  return c;
}

inline constexpr std::array<TensorName, 14> gemma_names = {{
    {"embed_tokens", "model.embed_tokens", "token_embd"},
    {"layers.{}.input_layernorm", "model.layers.{}.input_layernorm", "blk.{}.attn_norm", Layout::plus_one_in_gguf},
    {"layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", Layout::plus_one_in_gguf},
    {"layers.{}.mlp.gate_proj", "model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"norm", "model.norm", "output_norm", Layout::plus_one_in_gguf},
    {"causal_lm.out", "lm_head", "output"},
    {"seq_cls.out", "score"},
    {"token_cls.out", "score"},
}};

inline constexpr std::array<TensorName, 16> gemma2_names = {{
    {"embed_tokens", "model.embed_tokens", "token_embd"},
    {"layers.{}.input_layernorm", "model.layers.{}.input_layernorm", "blk.{}.attn_norm", Layout::plus_one_in_gguf},
    {"layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_self_attn_layernorm", "model.layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm", Layout::plus_one_in_gguf},
    {"layers.{}.post_attention_layernorm", "model.layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm", Layout::plus_one_in_gguf},
    {"layers.{}.mlp.gate_proj", "model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"layers.{}.post_mlp_layernorm", "model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm", Layout::plus_one_in_gguf},
    {"norm", "model.norm", "output_norm", Layout::plus_one_in_gguf},
    {"causal_lm.out", "lm_head", "output"},
    {"seq_cls.out", "score"},
    {"token_cls.out", "score"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& gemma_architecture() {
  static const Architecture gemma = {"gemma", "gemma", "model", detail::gemma_from_json, detail::gemma_to_json, detail::gemma_from_gguf, detail::gemma_names};
  return gemma;
}
PEFT_INLINE const Architecture& gemma2_architecture() {
  static const Architecture gemma2 = {
      "gemma2", "gemma2", "model", detail::gemma2_from_json, detail::gemma2_to_json, detail::gemma2_from_gguf, detail::gemma2_names};
  return gemma2;
}

}  // namespace peft
