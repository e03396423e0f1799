// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/impl/gguf_fields.hpp"
#include "peft/models/impl/json_fields.hpp"
#include "peft/models/llama.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig llama_from_json(const Json& json) {
  const ConfigFields f(json);
  TransformerConfig c;
  c.model_type = "llama";
  refuse_other(f, "quantization_config", Json());
  refuse_other(f, "partial_rotary_factor", Json(1.0));
  c.vocab_size = f.integer("vocab_size"), c.hidden_size = f.integer("hidden_size"), c.num_hidden_layers = f.integer("num_hidden_layers");
  c.max_position_embeddings = f.integer("max_position_embeddings", 2048);
  c.norm = {NormKind::rms, f.number("rms_norm_eps", 1e-6), 0};
  c.attention.num_attention_heads = f.integer("num_attention_heads");
  c.attention.num_key_value_heads = f.integer("num_key_value_heads", c.attention.num_attention_heads);
  c.attention.head_dim = f.find("head_dim") ? f.integer("head_dim") : head_dim(c);
  c.attention.qkv_bias = c.attention.o_bias = f.boolean("attention_bias", false);
  c.attention.rope = rope_config(json);
  c.mlp = {MlpKind::gated, activation_named("hidden_act", f.string("hidden_act", "silu")), f.integer("intermediate_size"), f.boolean("mlp_bias", false)};
  c.head.tied = f.boolean("tie_word_embeddings", false);
  read_token_ids(json, c);
  return c;
}

PEFT_INLINE TransformerConfig llama_from_gguf(const GgufFile& file) {
  const GgufFields f(file, "llama");
  TransformerConfig c;
  c.model_type = "llama";
  c.name = f.text("general.name", "");
  c.hidden_size = f.integer("embedding_length"), c.num_hidden_layers = f.integer("block_count");
  c.max_position_embeddings = f.integer("context_length", 2048);
  c.norm = {NormKind::rms, f.number("attention.layer_norm_rms_epsilon"), 0};
  c.attention.num_attention_heads = f.integer("attention.head_count");
  c.attention.num_key_value_heads = f.integer("attention.head_count_kv", c.attention.num_attention_heads);
  c.attention.head_dim = f.find("attention.key_length") ? f.integer("attention.key_length") : head_dim(c);
  if (const std::int64_t value = f.integer("attention.value_length", c.attention.head_dim); value != c.attention.head_dim)
    throw NotSupported(
        "config", "attention.value_length " + std::to_string(value) + " besides a key_length of " + std::to_string(c.attention.head_dim) + " is not supported");
  c.attention.rope = gguf_rope_config(f, c.attention.head_dim);
  c.mlp = {MlpKind::gated, Activation::silu, f.integer("feed_forward_length"), false};
  c.vocab_size = f.vocabulary();
  c.head.tied = !f.has_tensor("output.weight");
  read_gguf_token_ids(f, c);
  return c;
}

inline constexpr std::array<TensorName, 12> llama_names = {{
    {"embed_tokens", "model.embed_tokens", "token_embd"},
    {"layers.{}.input_layernorm", "model.layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", true},
    {"layers.{}.self_attn.k_proj", "model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", true},
    {"layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.gate_proj", "model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"norm", "model.norm", "output_norm"},
    {"lm_head", "lm_head", "output"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& llama_architecture() {
  static const Architecture llama = {"llama", "llama", detail::llama_from_json, detail::llama_from_gguf, detail::llama_names};
  return llama;
}

}  // namespace peft
