// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/chatglm.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig chatglm_from_json(const Json& json) {
  const ConfigFields f(json);
  if (!f.find("padded_vocab_size") && f.find("inner_hidden_size"))
    throw NotSupported("config", "inner_hidden_size is a key of ChatGLM-6B, which is not supported; supported are ChatGLM2 and ChatGLM3");
  // These change what is computed. rope_ratio scales positions in some releases, the base in others.
  for (const char* key : {"post_layer_norm", "rmsnorm", "original_rope"}) refuse_other(f, key, Json(true));
  for (const char* key : {"apply_residual_connection_post_layernorm", "add_bias_linear"}) refuse_other(f, key, Json(false));
  refuse_other(f, "quantization_bit", Json(std::int64_t(0))), refuse_other(f, "rope_ratio", Json(std::int64_t(1)));
  if (const Json* n = f.find("pre_seq_len"))
    throw NotSupported("config",
                       "pre_seq_len " + n->dump() +
                           ": a prefix is an adapter here; load its base with ModelTask::without_prefix, and then load_adapter from the same directory");
  if (!f.boolean("multi_query_attention", false))
    throw NotSupported("config", "multi_query_attention false, with q, k and v side by side in each head, is not supported; supported is true");
  // Published files name the bare model, "ChatGLMModel", and hold the output layer all the same.
  if (const Json* classes = f.find("architectures"); classes && classes->is_array() && !classes->array().empty()) {
    const std::string name = named_field("architectures", [&] { return std::string(classes->array()[0].string()); });
    if (name != "ChatGLMModel" && name != "ChatGLMForConditionalGeneration")
      throw NotSupported("config", "architectures \"" + name + "\" is not supported; supported are ChatGLMModel, ChatGLMForConditionalGeneration");
  }
  TransformerConfig c;
  c.model_type = "chatglm";
  c.vocab_size = f.integer("padded_vocab_size"), c.hidden_size = f.integer("hidden_size"), c.num_hidden_layers = f.integer("num_layers");
  c.max_position_embeddings = f.integer("seq_length", 2048);
  c.norm = {NormKind::rms, f.number("layernorm_epsilon", 1e-5), 0};
  AttentionConfig& a = c.attention;
  a.num_attention_heads = f.integer("num_attention_heads"), a.num_key_value_heads = f.integer("multi_query_group_num", 1);
  a.head_dim = f.find("kv_channels") ? f.integer("kv_channels") : head_dim(c);
  a.qkv_bias = f.boolean("add_qkv_bias", false), a.fused_qkv = true;
  a.rope.emplace();
  a.rope->interleaved = true, a.rope->partial_rotary_factor = 0.5;
  c.mlp = {MlpKind::gated, Activation::silu, f.integer("ffn_hidden_size"), false, true};
  c.head.tied = false;
  c.prefix = {false, true};
  read_token_ids(json, c);
  c.embedding.padding_idx = -1;  // the row of the padding learns like any other
  return c;
}

PEFT_INLINE Json chatglm_to_json(const TransformerConfig& c) {
  Json j = common_json(c, "ChatGLM", "ForConditionalGeneration");
  const AttentionConfig& a = c.attention;
  j.set("padded_vocab_size", Json(c.vocab_size)), j.set("hidden_size", Json(c.hidden_size)), j.set("num_layers", Json(c.num_hidden_layers));
  j.set("ffn_hidden_size", Json(c.mlp.intermediate_size)), j.set("seq_length", Json(c.max_position_embeddings));
  j.set("num_attention_heads", Json(a.num_attention_heads)), j.set("kv_channels", Json(a.head_dim));
  j.set("multi_query_attention", Json(true)), j.set("multi_query_group_num", Json(a.num_key_value_heads));
  j.set("add_qkv_bias", Json(a.qkv_bias)), j.set("add_bias_linear", Json(false)), j.set("layernorm_epsilon", Json(c.norm.eps));
  for (const char* key : {"rmsnorm", "post_layer_norm", "original_rope", "attention_softmax_in_fp32"}) j.set(key, Json(true));
  for (const char* key : {"apply_residual_connection_post_layernorm", "fp32_residual_connection"}) j.set(key, Json(false));
  return j;
}

inline constexpr std::array<TensorName, 9> chatglm_names = {{
    {"embed_tokens", "transformer.embedding.word_embeddings"},
    {"layers.{}.input_layernorm", "transformer.encoder.layers.{}.input_layernorm"},
    {"layers.{}.self_attn.qkv_proj", "transformer.encoder.layers.{}.self_attention.query_key_value"},
    {"layers.{}.self_attn.o_proj", "transformer.encoder.layers.{}.self_attention.dense"},
    {"layers.{}.post_attention_layernorm", "transformer.encoder.layers.{}.post_attention_layernorm"},
    {"layers.{}.mlp.gate_up_proj", "transformer.encoder.layers.{}.mlp.dense_h_to_4h"},
    {"layers.{}.mlp.down_proj", "transformer.encoder.layers.{}.mlp.dense_4h_to_h"},
    {"norm", "transformer.encoder.final_layernorm"},
    {"causal_lm.out", "transformer.output_layer"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& chatglm_architecture() {
  static const Architecture chatglm = {"chatglm", nullptr, "transformer", detail::chatglm_from_json, detail::chatglm_to_json, nullptr, detail::chatglm_names};
  return chatglm;
}

}  // namespace peft
