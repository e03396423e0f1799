// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/impl/decoder_fields.hpp"
#include "peft/models/llama.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig llama_from_json(const Json& json) {
  TransformerConfig c = decoder_from_json(json, "llama", {});
  const ConfigFields f(json);
  c.attention.qkv_bias = c.attention.o_bias = f.boolean("attention_bias", false), c.mlp.bias = f.boolean("mlp_bias", false);
  return c;
}
PEFT_INLINE Json llama_to_json(const TransformerConfig& c) {
  Json j = decoder_to_json(c, "Llama");
  j.set("attention_bias", Json(c.attention.qkv_bias)), j.set("mlp_bias", Json(c.mlp.bias));
  return j;
}
PEFT_INLINE TransformerConfig llama_from_gguf(const GgufFile& file) { return decoder_from_gguf(file, "llama"); }

PEFT_INLINE std::span<const TensorName> llama_names() {
  static constexpr std::array<TensorName, 14> names = {{
      {"embed_tokens", "model.embed_tokens", "token_embd"},
      {"layers.{}.input_layernorm", "model.layers.{}.input_layernorm", "blk.{}.attn_norm"},
      {"layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", Layout::rotary_in_gguf},
      {"layers.{}.self_attn.k_proj", "model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", Layout::rotary_in_gguf},
      {"layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
      {"layers.{}.self_attn.o_proj", "model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
      {"layers.{}.post_attention_layernorm", "model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
      {"layers.{}.mlp.gate_proj", "model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
      {"layers.{}.mlp.up_proj", "model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
      {"layers.{}.mlp.down_proj", "model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
      {"norm", "model.norm", "output_norm"},
      {"causal_lm.out", "lm_head", "output"},
      {"seq_cls.out", "score"},
      {"token_cls.out", "score"},
  }};
  return names;
}

}  // namespace detail

PEFT_INLINE const Architecture& llama_architecture() {
  static const Architecture llama = {"llama", "llama", "model", detail::llama_from_json, detail::llama_to_json, detail::llama_from_gguf, detail::llama_names()};
  return llama;
}

}  // namespace peft
