// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/glm.hpp"
#include "peft/models/impl/decoder_fields.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig glm_from_json(const Json& json) {
  TransformerConfig c = decoder_from_json(
      json, "glm", {.max_position_embeddings = 131072, .rms_norm_eps = 1.5625e-7, .num_key_value_heads = 2, .head_dim = 128, .partial_rotary_factor = 0.5});
  c.attention.qkv_bias = ConfigFields(json).boolean("attention_bias", true);
  c.attention.rope->interleaved = true;
  c.mlp.fused_gate_up = true;
  return c;
}
PEFT_INLINE Json glm_to_json(const TransformerConfig& c) {
  Json j = decoder_to_json(c, "Glm", 0.5);
  j.set("attention_bias", Json(c.attention.qkv_bias));
  return j;
}
PEFT_INLINE TransformerConfig glm4_from_json(const Json& json) {
  TransformerConfig c = glm_from_json(json);
  c.model_type = "glm4", c.norm_placement = NormPlacement::around;
  return c;
}
PEFT_INLINE Json glm4_to_json(const TransformerConfig& c) {
  Json j = decoder_to_json(c, "Glm4", 0.5);
  j.set("attention_bias", Json(c.attention.qkv_bias));
  return j;
}

inline constexpr std::array<TensorName, 15> glm_names = {{
    {"embed_tokens", "model.embed_tokens"},
    {"layers.{}.input_layernorm", "model.layers.{}.input_layernorm"},
    {"layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.q_proj"},
    {"layers.{}.self_attn.k_proj", "model.layers.{}.self_attn.k_proj"},
    {"layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.v_proj"},
    {"layers.{}.self_attn.o_proj", "model.layers.{}.self_attn.o_proj"},
    {"layers.{}.post_self_attn_layernorm", "model.layers.{}.post_self_attn_layernorm"},
    {"layers.{}.post_attention_layernorm", "model.layers.{}.post_attention_layernorm"},
    {"layers.{}.mlp.gate_up_proj", "model.layers.{}.mlp.gate_up_proj"},
    {"layers.{}.mlp.down_proj", "model.layers.{}.mlp.down_proj"},
    {"layers.{}.post_mlp_layernorm", "model.layers.{}.post_mlp_layernorm"},
    {"norm", "model.norm"},
    {"causal_lm.out", "lm_head"},
    {"seq_cls.out", "score"},
    {"token_cls.out", "score"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& glm_architecture() {
  static const Architecture glm = {"glm", nullptr, "model", detail::glm_from_json, detail::glm_to_json, nullptr, detail::glm_names};
  return glm;
}
PEFT_INLINE const Architecture& glm4_architecture() {
  static const Architecture glm4 = {"glm4", nullptr, "model", detail::glm4_from_json, detail::glm4_to_json, nullptr, detail::glm_names};
  return glm4;
}

}  // namespace peft
