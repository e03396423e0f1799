// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/impl/json_fields.hpp"
#include "peft/models/opt.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig opt_from_json(const Json& json) {
  const ConfigFields f(json);
  TransformerConfig c;
  c.model_type = "opt";
  refuse_other(f, "quantization_config", Json());
  for (const char* key : {"do_layer_norm_before", "enable_bias", "layer_norm_elementwise_affine"}) refuse_other(f, key, Json(true));
  refuse_other(f, "_remove_final_layer_norm", Json(false));
  c.vocab_size = f.integer("vocab_size", 50272), c.hidden_size = f.integer("hidden_size", 768), c.num_hidden_layers = f.integer("num_hidden_layers", 12);
  refuse_other(f, "word_embed_proj_dim", Json(c.hidden_size));
  c.max_position_embeddings = f.integer("max_position_embeddings", 2048);
  c.embedding.positions = c.max_position_embeddings + 2, c.embedding.first_position = 2;
  c.norm.kind = NormKind::layer;
  AttentionConfig& a = c.attention;
  a.num_attention_heads = a.num_key_value_heads = f.integer("num_attention_heads", 12), a.head_dim = head_dim(c);
  a.qkv_bias = a.o_bias = true;
  c.mlp = {MlpKind::plain, activation_named("activation_function", f.string("activation_function", "relu")), f.integer("ffn_dim", 4 * c.hidden_size), true};
  c.head.tied = f.boolean("tie_word_embeddings", true);
  c.head.task = task_type(json, TaskType::causal_lm);
  read_labels(json, c.head);
  if (c.head.task == TaskType::seq_cls) c.head.pooling = Pooling::last;
  c.head.bias = c.head.task == TaskType::question_ans;
  read_token_ids(json, c);
  return c;
}
PEFT_INLINE Json opt_to_json(const TransformerConfig& c) {
  Json j = common_json(c, "OPT");
  j.set("hidden_size", Json(c.hidden_size)), j.set("word_embed_proj_dim", Json(c.hidden_size)), j.set("num_hidden_layers", Json(c.num_hidden_layers));
  j.set("num_attention_heads", Json(c.attention.num_attention_heads)), j.set("max_position_embeddings", Json(c.max_position_embeddings));
  j.set("ffn_dim", Json(c.mlp.intermediate_size)), j.set("activation_function", Json(name_of(c.mlp.activation))), j.set("do_layer_norm_before", Json(true));
  return j;
}

inline constexpr std::array<TensorName, 14> opt_names = {{
    {"embed_tokens", "model.decoder.embed_tokens"},
    {"embed_positions", "model.decoder.embed_positions"},
    {"layers.{}.input_layernorm", "model.decoder.layers.{}.self_attn_layer_norm"},
    {"layers.{}.self_attn.q_proj", "model.decoder.layers.{}.self_attn.q_proj"},
    {"layers.{}.self_attn.k_proj", "model.decoder.layers.{}.self_attn.k_proj"},
    {"layers.{}.self_attn.v_proj", "model.decoder.layers.{}.self_attn.v_proj"},
    {"layers.{}.self_attn.o_proj", "model.decoder.layers.{}.self_attn.out_proj"},
    {"layers.{}.post_attention_layernorm", "model.decoder.layers.{}.final_layer_norm"},
    {"layers.{}.mlp.up_proj", "model.decoder.layers.{}.fc1"},
    {"layers.{}.mlp.down_proj", "model.decoder.layers.{}.fc2"},
    {"norm", "model.decoder.final_layer_norm"},
    {"causal_lm.out", "lm_head"},
    {"seq_cls.out", "score"},
    {"question_ans.out", "qa_outputs"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& opt_architecture() {
  static const Architecture opt = {"opt", nullptr, "model", detail::opt_from_json, detail::opt_to_json, nullptr, detail::opt_names};
  return opt;
}

}  // namespace peft
