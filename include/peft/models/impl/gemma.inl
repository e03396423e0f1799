// SPDX-License-Identifier: Apache-2.0
#pragma once

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

PEFT_INLINE TransformerConfig gemma_from_json(const Json& json) {
  const ConfigFields f(json);
  TransformerConfig c = decoder_from_json(json, "gemma", {.max_position_embeddings = 8192, .head_dim = 256, .hidden_act = "gelu_pytorch_tanh", .tied = true});
  if (f.find("hidden_activation")) c.mlp.activation = activation_named("hidden_activation", f.string("hidden_activation", ""));
  if (f.boolean("use_bidirectional_attention", false)) refuse_other(f, "use_bidirectional_attention", Json(false));
  c.attention.qkv_bias = c.attention.o_bias = f.boolean("attention_bias", false);
  make_gemma(c);
  return c;
}
PEFT_INLINE Json gemma_to_json(const TransformerConfig& c) {
  Json j = decoder_to_json(c, "Gemma");
  j.set("attention_bias", Json(c.attention.qkv_bias)), j.set("hidden_activation", Json(name_of(c.mlp.activation)));
  return j;
}
PEFT_INLINE TransformerConfig gemma_from_gguf(const GgufFile& file) {
  TransformerConfig c = decoder_from_gguf(file, "gemma");
  c.mlp.activation = Activation::gelu_tanh;
  make_gemma(c);
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

}  // namespace detail

PEFT_INLINE const Architecture& gemma_architecture() {
  static const Architecture gemma = {"gemma", "gemma", "model", detail::gemma_from_json, detail::gemma_to_json, detail::gemma_from_gguf, detail::gemma_names};
  return gemma;
}

}  // namespace peft
