// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>

#include "peft/models/chatglm.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {

// What neither generation's files may say here.
PEFT_INLINE void refuse_other_chatglm(const ConfigFields& f) {
  refuse_other(f, "quantization_bit", Json(std::int64_t(0)));
  if (const Json* n = f.find("pre_seq_len"))
    throw NotSupported("config",
                       "pre_seq_len " + n->dump() +
                           ": a prefix is an adapter here; load its base with ModelTask::without_prefix, and then load_adapter from the same directory");
  // Published files name the bare model, "ChatGLMModel", and hold the output layer all the same.
  if (const Json* classes = f.find("architectures"); classes && classes->is_array() && !classes->array().empty()) {
    const std::string name = named_field("architectures", [&] { return std::string(classes->array()[0].string()); });
    if (name != "ChatGLMModel" && name != "ChatGLMForConditionalGeneration")
      throw NotSupported("config", "architectures \"" + name + "\" is not supported; supported are ChatGLMModel, ChatGLMForConditionalGeneration");
  }
}

PEFT_INLINE TransformerConfig chatglm_from_json(const Json& json) {
  const ConfigFields f(json);
  // These change what is computed. rope_ratio scales positions in some releases, the base in others.
  for (const char* key : {"post_layer_norm", "rmsnorm", "original_rope"}) refuse_other(f, key, Json(true));
  for (const char* key : {"apply_residual_connection_post_layernorm", "add_bias_linear"}) refuse_other(f, key, Json(false));
  refuse_other(f, "rope_ratio", Json(std::int64_t(1)));
  refuse_other_chatglm(f);
  if (!f.boolean("multi_query_attention", false))
    throw NotSupported("config", "multi_query_attention false, with q, k and v side by side in each head, is not supported; supported is true");
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

PEFT_INLINE TransformerConfig chatglm_6b_from_json(const Json& json) {
  const ConfigFields f(json);
  refuse_other(f, "position_encoding_2d", Json(true));
  refuse_other_chatglm(f);
  TransformerConfig c;
  c.model_type = "chatglm", c.variant = "6b";
  c.vocab_size = f.integer("vocab_size"), c.hidden_size = f.integer("hidden_size"), c.num_hidden_layers = f.integer("num_layers");
  c.max_position_embeddings = f.integer("max_sequence_length", 2048);
  c.norm = {NormKind::layer, f.number("layernorm_epsilon", 1e-5), 0};
  // Its blocks are built for 28 layers, however many there are: √(2 · 28).
  c.normed_residual = std::sqrt(56.0);
  AttentionConfig& a = c.attention;
  a.num_attention_heads = a.num_key_value_heads = f.integer("num_attention_heads"), a.head_dim = head_dim(c);
  a.qkv_bias = a.o_bias = a.fused_qkv = a.qkv_by_head = true;
  a.rope.emplace();
  a.rope->two_dimensional = a.rope->half_frequencies = true;
  c.mlp = {MlpKind::plain, Activation::gelu_tanh, f.integer("inner_hidden_size"), true, false};
  c.head.tied = false;
  read_token_ids(json, c);
  c.embedding.padding_idx = -1;
  // Those of the first release, where 20,000 ids of images come first; later files (130528 ids) state theirs.
  if (c.bos_token_ids.empty()) c.bos_token_ids = {150004};
  if (c.eos_token_ids.empty()) c.eos_token_ids = {150005};
  const auto id = [&](const char* key, std::int64_t otherwise) {
    const std::int64_t n = f.integer(key, otherwise);
    if (n < 0 || n >= c.vocab_size)
      throw ConfigError("config", std::string(key) + " is " + std::to_string(n) + (f.find(key) ? "" : ", where the file says nothing,") +
                                      " of a vocabulary of " + std::to_string(c.vocab_size));
    return std::int32_t(n);
  };
  c.blank_tokens = BlankTokens{c.bos_token_ids[0], id("gmask_token_id", 150001), id("mask_token_id", 150000)};
  c.prefix.moves_positions = false;
  return c;
}

PEFT_INLINE Json chatglm_6b_to_json(const TransformerConfig& c) {
  Json j = common_json(c, "ChatGLM", "ForConditionalGeneration");
  j.set("hidden_size", Json(c.hidden_size)), j.set("num_layers", Json(c.num_hidden_layers)),
      j.set("num_attention_heads", Json(c.attention.num_attention_heads));
  j.set("inner_hidden_size", Json(c.mlp.intermediate_size)), j.set("max_sequence_length", Json(c.max_position_embeddings));
  j.set("layernorm_epsilon", Json(c.norm.eps)), j.set("position_encoding_2d", Json(true));
  j.set("gmask_token_id", Json(std::int64_t(c.blank_tokens->gmask))), j.set("mask_token_id", Json(std::int64_t(c.blank_tokens->mask)));
  return j;
}

inline constexpr std::array<TensorName, 9> chatglm_6b_names = {{
    {"embed_tokens", "transformer.word_embeddings"},
    {"layers.{}.input_layernorm", "transformer.layers.{}.input_layernorm"},
    {"layers.{}.self_attn.qkv_proj", "transformer.layers.{}.attention.query_key_value"},
    {"layers.{}.self_attn.o_proj", "transformer.layers.{}.attention.dense"},
    {"layers.{}.post_attention_layernorm", "transformer.layers.{}.post_attention_layernorm"},
    {"layers.{}.mlp.up_proj", "transformer.layers.{}.mlp.dense_h_to_4h"},
    {"layers.{}.mlp.down_proj", "transformer.layers.{}.mlp.dense_4h_to_h"},
    {"norm", "transformer.final_layernorm"},
    {"causal_lm.out", "lm_head"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& chatglm_architecture() {
  static const Architecture chatglm = {"chatglm", nullptr, "transformer", detail::chatglm_from_json, detail::chatglm_to_json, nullptr, detail::chatglm_names};
  return chatglm;
}
PEFT_INLINE const Architecture& chatglm_6b_architecture() {
  static const Architecture chatglm_6b = {
      "chatglm",          nullptr, "transformer", detail::chatglm_6b_from_json, detail::chatglm_6b_to_json, nullptr, detail::chatglm_6b_names, "6b",
      "inner_hidden_size"};
  return chatglm_6b;
}

}  // namespace peft
