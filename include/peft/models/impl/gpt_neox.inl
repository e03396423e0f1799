// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/gpt_neox.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig gpt_neox_from_json(const Json& json) {
  const ConfigFields f(json);
  TransformerConfig c;
  c.model_type = "gpt_neox";
  refuse_other(f, "quantization_config", Json());
  c.vocab_size = f.integer("vocab_size", 50432), c.hidden_size = f.integer("hidden_size", 6144), c.num_hidden_layers = f.integer("num_hidden_layers", 44);
  c.max_position_embeddings = f.integer("max_position_embeddings", 2048);
  c.norm = {NormKind::layer, f.number("layer_norm_eps", 1e-5), 0};
  c.parallel_residual = f.boolean("use_parallel_residual", true);
  AttentionConfig& a = c.attention;
  a.num_attention_heads = a.num_key_value_heads = f.integer("num_attention_heads", 64), a.head_dim = head_dim(c);
  a.fused_qkv = a.qkv_by_head = true, a.qkv_bias = a.o_bias = f.boolean("attention_bias", true);
  a.rope = rope_config(json, f.number("rotary_pct", 0.25));
  if (f.find("rotary_emb_base")) a.rope->theta = f.number("rotary_emb_base");  // as versions before transformers 5 call it
  c.mlp = {MlpKind::plain, activation_named("hidden_act", f.string("hidden_act", "gelu")), f.integer("intermediate_size", 4 * c.hidden_size), true};
  c.head.tied = f.boolean("tie_word_embeddings", false);
  c.head.task = task_type(json, TaskType::causal_lm);
  read_labels(json, c.head);
  if (c.head.task == TaskType::seq_cls) c.head.pooling = Pooling::last;
  c.head.bias = c.head.task == TaskType::token_cls || c.head.task == TaskType::question_ans;
  read_token_ids(json, c);
  c.embedding.padding_idx = -1;
  return c;
}
PEFT_INLINE Json gpt_neox_to_json(const TransformerConfig& c) {
  Json j = common_json(c, "GPTNeoX");
  j.set("hidden_size", Json(c.hidden_size)), j.set("num_hidden_layers", Json(c.num_hidden_layers));
  j.set("num_attention_heads", Json(c.attention.num_attention_heads)), j.set("intermediate_size", Json(c.mlp.intermediate_size));
  j.set("max_position_embeddings", Json(c.max_position_embeddings)), j.set("layer_norm_eps", Json(c.norm.eps));
  j.set("hidden_act", Json(name_of(c.mlp.activation))), j.set("attention_bias", Json(c.attention.qkv_bias));
  j.set("use_parallel_residual", Json(c.parallel_residual));
  set_rope(j, *c.attention.rope, 0.25);
  j.set("rotary_pct", Json(c.attention.rope->partial_rotary_factor)), j.set("rotary_emb_base", Json(c.attention.rope->theta));
  return j;
}

inline constexpr std::array<TensorName, 12> gpt_neox_names = {{
    {"embed_tokens", "gpt_neox.embed_in"},
    {"layers.{}.input_layernorm", "gpt_neox.layers.{}.input_layernorm"},
    {"layers.{}.self_attn.qkv_proj", "gpt_neox.layers.{}.attention.query_key_value"},
    {"layers.{}.self_attn.o_proj", "gpt_neox.layers.{}.attention.dense"},
    {"layers.{}.post_attention_layernorm", "gpt_neox.layers.{}.post_attention_layernorm"},
    {"layers.{}.mlp.up_proj", "gpt_neox.layers.{}.mlp.dense_h_to_4h"},
    {"layers.{}.mlp.down_proj", "gpt_neox.layers.{}.mlp.dense_4h_to_h"},
    {"norm", "gpt_neox.final_layer_norm"},
    {"causal_lm.out", "embed_out"},
    {"seq_cls.out", "score"},
    {"token_cls.out", "classifier"},
    {"question_ans.out", "qa_outputs"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& gpt_neox_architecture() {
  static const Architecture gpt_neox = {"gpt_neox", nullptr, "gpt_neox", detail::gpt_neox_from_json, detail::gpt_neox_to_json, nullptr, detail::gpt_neox_names};
  return gpt_neox;
}

}  // namespace peft
