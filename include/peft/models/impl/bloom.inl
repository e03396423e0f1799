// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/bloom.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig bloom_from_json(const Json& json) {
  const ConfigFields f(json);
  TransformerConfig c;
  c.model_type = "bloom";
  refuse_other(f, "quantization_config", Json()), refuse_other(f, "apply_residual_connection_post_layernorm", Json(false));
  c.vocab_size = f.integer("vocab_size", 250880);
  c.hidden_size = f.find("n_embed") ? f.integer("n_embed") : f.integer("hidden_size", 64);
  c.num_hidden_layers = f.find("num_hidden_layers") ? f.integer("num_hidden_layers") : f.integer("n_layer", 2);
  c.max_position_embeddings = f.integer("seq_length", 2048);  // what it was trained on: nothing in it ends there
  c.norm = {NormKind::layer, f.number("layer_norm_epsilon", 1e-5), 0};
  c.embedding.norm = true;
  AttentionConfig& a = c.attention;
  a.num_attention_heads = a.num_key_value_heads = f.find("num_attention_heads") ? f.integer("num_attention_heads") : f.integer("n_head", 8);
  a.head_dim = head_dim(c);
  a.fused_qkv = a.qkv_by_head = a.qkv_bias = a.o_bias = a.alibi = true;
  c.mlp = {MlpKind::plain, Activation::gelu_tanh, 4 * c.hidden_size, true};
  c.head.tied = f.boolean("tie_word_embeddings", true);
  c.head.task = task_type(json, TaskType::causal_lm);
  read_labels(json, c.head);
  if (c.head.task == TaskType::seq_cls) c.head.pooling = Pooling::last;
  c.head.bias = c.head.task == TaskType::token_cls || c.head.task == TaskType::question_ans;
  read_token_ids(json, c);
  c.embedding.padding_idx = -1;
  return c;
}
PEFT_INLINE Json bloom_to_json(const TransformerConfig& c) {
  Json j = common_json(c, "Bloom");
  j.set("hidden_size", Json(c.hidden_size)), j.set("n_layer", Json(c.num_hidden_layers)), j.set("n_head", Json(c.attention.num_attention_heads));
  j.set("seq_length", Json(c.max_position_embeddings)), j.set("layer_norm_epsilon", Json(c.norm.eps));
  j.set("apply_residual_connection_post_layernorm", Json(false));
  return j;
}

inline constexpr std::array<TensorName, 13> bloom_names = {{
    {"embed_tokens", "transformer.word_embeddings"},
    {"embedding_norm", "transformer.word_embeddings_layernorm"},
    {"layers.{}.input_layernorm", "transformer.h.{}.input_layernorm"},
    {"layers.{}.self_attn.qkv_proj", "transformer.h.{}.self_attention.query_key_value"},
    {"layers.{}.self_attn.o_proj", "transformer.h.{}.self_attention.dense"},
    {"layers.{}.post_attention_layernorm", "transformer.h.{}.post_attention_layernorm"},
    {"layers.{}.mlp.up_proj", "transformer.h.{}.mlp.dense_h_to_4h"},
    {"layers.{}.mlp.down_proj", "transformer.h.{}.mlp.dense_4h_to_h"},
    {"norm", "transformer.ln_f"},
    {"causal_lm.out", "lm_head"},
    {"seq_cls.out", "score"},
    {"token_cls.out", "classifier"},
    {"question_ans.out", "qa_outputs"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& bloom_architecture() {
  static const Architecture bloom = {"bloom", nullptr, "transformer", detail::bloom_from_json, detail::bloom_to_json, nullptr, detail::bloom_names};
  return bloom;
}

}  // namespace peft
