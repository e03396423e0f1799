// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/gpt2.hpp"
#include "peft/models/impl/gguf_fields.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {

// What does not depend on the file.
inline void make_gpt2(TransformerConfig& c) {
  c.model_type = "gpt2";
  c.norm.kind = NormKind::layer;
  c.embedding.positions = c.max_position_embeddings;
  c.embedding.padding_idx = -1;
  c.attention.num_key_value_heads = c.attention.num_attention_heads, c.attention.head_dim = head_dim(c);
  c.attention.fused_qkv = c.attention.qkv_bias = c.attention.o_bias = true;
  c.mlp.kind = MlpKind::plain, c.mlp.bias = true;
}

PEFT_INLINE TransformerConfig gpt2_from_json(const Json& json) {
  const ConfigFields f(json);
  TransformerConfig c;
  refuse_other(f, "quantization_config", Json());
  for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"}) refuse_other(f, key, Json(false));
  c.vocab_size = f.integer("vocab_size", 50257), c.hidden_size = f.integer("n_embd", 768), c.num_hidden_layers = f.integer("n_layer", 12);
  c.max_position_embeddings = f.integer("n_positions", 1024);
  c.norm.eps = f.number("layer_norm_epsilon", 1e-5);
  c.attention.num_attention_heads = f.integer("n_head", 12);
  c.attention.scale = f.boolean("scale_attn_weights", true) ? 0 : 1;
  c.mlp.activation = activation_named("activation_function", f.string("activation_function", "gelu_new"));
  c.mlp.intermediate_size = f.integer("n_inner", 4 * c.hidden_size);
  c.head.tied = f.boolean("tie_word_embeddings", true);
  c.head.task = task_type(json, TaskType::causal_lm);
  read_labels(json, c.head);
  if (c.head.task == TaskType::seq_cls) c.head.pooling = Pooling::last;
  c.head.bias = c.head.task == TaskType::token_cls || c.head.task == TaskType::question_ans;
  read_token_ids(json, c);
  make_gpt2(c);
  return c;
}
PEFT_INLINE Json gpt2_to_json(const TransformerConfig& c) {
  Json j = common_json(c, "GPT2", "LMHeadModel");
  j.set("n_embd", Json(c.hidden_size)), j.set("n_layer", Json(c.num_hidden_layers)), j.set("n_head", Json(c.attention.num_attention_heads));
  j.set("n_positions", Json(c.max_position_embeddings)), j.set("n_inner", Json(c.mlp.intermediate_size));
  j.set("layer_norm_epsilon", Json(c.norm.eps)), j.set("scale_attn_weights", Json(c.attention.scale == 0));
  j.set("activation_function", Json(c.mlp.activation == Activation::gelu_tanh ? "gelu_new" : name_of(c.mlp.activation)));
  return j;
}
PEFT_INLINE TransformerConfig gpt2_from_gguf(const GgufFile& file) {
  const GgufFields f(file, "gpt2");
  TransformerConfig c;
  c.name = f.text("general.name", "");
  c.hidden_size = f.integer("embedding_length"), c.num_hidden_layers = f.integer("block_count");
  c.max_position_embeddings = f.integer("context_length");
  c.norm.eps = f.number("attention.layer_norm_epsilon");
  c.attention.num_attention_heads = f.integer("attention.head_count");
  c.mlp.activation = Activation::gelu_tanh, c.mlp.intermediate_size = f.integer("feed_forward_length", 4 * c.hidden_size);
  c.vocab_size = f.vocabulary();
  c.head.tied = !f.has_tensor("output.weight");
  read_gguf_token_ids(f, c);
  make_gpt2(c);
  return c;
}

inline constexpr std::array<TensorName, 13> gpt2_names = {{
    {"embed_tokens", "transformer.wte", "token_embd"},
    {"embed_positions", "transformer.wpe", "position_embd"},
    {"layers.{}.input_layernorm", "transformer.h.{}.ln_1", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.qkv_proj", "transformer.h.{}.attn.c_attn", "blk.{}.attn_qkv", Layout::conv1d},
    {"layers.{}.self_attn.o_proj", "transformer.h.{}.attn.c_proj", "blk.{}.attn_output", Layout::conv1d},
    {"layers.{}.post_attention_layernorm", "transformer.h.{}.ln_2", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.up_proj", "transformer.h.{}.mlp.c_fc", "blk.{}.ffn_up", Layout::conv1d},
    {"layers.{}.mlp.down_proj", "transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down", Layout::conv1d},
    {"norm", "transformer.ln_f", "output_norm"},
    {"causal_lm.out", "lm_head", "output"},
    {"seq_cls.out", "score"},
    {"token_cls.out", "classifier"},
    {"question_ans.out", "qa_outputs"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& gpt2_architecture() {
  static const Architecture gpt2 = {"gpt2", "gpt2", "transformer", detail::gpt2_from_json, detail::gpt2_to_json, detail::gpt2_from_gguf, detail::gpt2_names};
  return gpt2;
}

}  // namespace peft
