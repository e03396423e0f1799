// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/impl/decoder_fields.hpp"
#include "peft/models/qwen.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig qwen2_from_json(const Json& json) {
  TransformerConfig c = decoder_from_json(json, "qwen2", {.max_position_embeddings = 32768});
  c.attention.qkv_bias = true;
  read_sliding_layers(json, c);
  return c;
}
PEFT_INLINE Json qwen2_to_json(const TransformerConfig& c) {
  Json j = decoder_to_json(c, "Qwen2");
  set_sliding_layers(j, c);
  return j;
}
PEFT_INLINE TransformerConfig qwen2_from_gguf(const GgufFile& file) {
  TransformerConfig c = decoder_from_gguf(file, "qwen2");
  c.attention.qkv_bias = true;
  return c;
}

PEFT_INLINE TransformerConfig qwen3_from_json(const Json& json) {
  TransformerConfig c = decoder_from_json(json, "qwen3", {.max_position_embeddings = 32768, .head_dim = 128});
  c.attention.qkv_bias = c.attention.o_bias = ConfigFields(json).boolean("attention_bias", false);
  c.attention.qk_norm = true;
  read_sliding_layers(json, c);
  return c;
}
PEFT_INLINE Json qwen3_to_json(const TransformerConfig& c) {
  Json j = decoder_to_json(c, "Qwen3");
  j.set("attention_bias", Json(c.attention.qkv_bias));
  set_sliding_layers(j, c);
  return j;
}
PEFT_INLINE TransformerConfig qwen3_from_gguf(const GgufFile& file) {
  TransformerConfig c = decoder_from_gguf(file, "qwen3");
  c.attention.qk_norm = true;
  return c;
}

// In GGUF, too, q and k lie as Hugging Face has them.
inline constexpr std::array<TensorName, 16> qwen_names = {{
    {"embed_tokens", "model.embed_tokens", "token_embd"},
    {"layers.{}.input_layernorm", "model.layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.self_attn.q_norm", "model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"},
    {"layers.{}.self_attn.k_norm", "model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"},
    {"layers.{}.post_attention_layernorm", "model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.gate_proj", "model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"norm", "model.norm", "output_norm"},
    {"causal_lm.out", "lm_head", "output"},
    {"seq_cls.out", "score"},
    {"token_cls.out", "score"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& qwen2_architecture() {
  static const Architecture qwen2 = {"qwen2", "qwen2", "model", detail::qwen2_from_json, detail::qwen2_to_json, detail::qwen2_from_gguf, detail::qwen_names};
  return qwen2;
}
PEFT_INLINE const Architecture& qwen3_architecture() {
  static const Architecture qwen3 = {"qwen3", "qwen3", "model", detail::qwen3_from_json, detail::qwen3_to_json, detail::qwen3_from_gguf, detail::qwen_names};
  return qwen3;
}

}  // namespace peft
