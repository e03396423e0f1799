// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/bert.hpp"
#include "peft/models/impl/gguf_fields.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {

// What the encoders here have in common: both directions, norms behind the joins, biases everywhere, learned positions, and their heads.
inline void make_encoder(const Json& json, TransformerConfig& c, Activation classifier, Activation masked_lm) {
  c.norm.kind = NormKind::layer, c.norm_placement = NormPlacement::behind;
  c.embedding.norm = true;
  c.attention.num_key_value_heads = c.attention.num_attention_heads, c.attention.head_dim = head_dim(c);
  c.attention.qkv_bias = c.attention.o_bias = true, c.attention.causal = false;
  c.mlp.kind = MlpKind::plain, c.mlp.bias = true;
  HeadConfig& h = c.head;
  h.task = task_type(json, TaskType::feature_extraction);
  if (h.task == TaskType::causal_lm) throw NotSupported("config", "architectures " + json.get("architectures")->dump() + " is not supported for an encoder");
  h.tied = ConfigFields(json).boolean("tie_word_embeddings", true), h.bias = true;
  read_labels(json, h);
  if (h.task == TaskType::masked_lm) h.dense = masked_lm, h.norm = true;
  if (h.task == TaskType::seq_cls || h.task == TaskType::feature_extraction) h.dense = classifier, h.pooling = Pooling::first;
}

// BERT's keys, which RoBERTa has too.
inline TransformerConfig bert_from_json_as(const Json& json, const char* model_type) {
  const ConfigFields f(json);
  TransformerConfig c;
  c.model_type = model_type;
  for (const char* key : {"is_decoder", "add_cross_attention"}) refuse_other(f, key, Json(false));
  refuse_other(f, "position_embedding_type", Json("absolute"));
  refuse_other(f, "quantization_config", Json());
  c.vocab_size = f.integer("vocab_size", 30522), c.hidden_size = f.integer("hidden_size", 768), c.num_hidden_layers = f.integer("num_hidden_layers", 12);
  c.max_position_embeddings = c.embedding.positions = f.integer("max_position_embeddings", 512);
  c.embedding.token_types = f.integer("type_vocab_size", 2);
  c.norm.eps = f.number("layer_norm_eps", 1e-12);
  c.attention.num_attention_heads = f.integer("num_attention_heads", 12);
  c.mlp.activation = activation_named("hidden_act", f.string("hidden_act", "gelu")), c.mlp.intermediate_size = f.integer("intermediate_size", 3072);
  read_token_ids(json, c);
  return c;
}
inline Json bert_to_json_as(const TransformerConfig& c, const char* class_name) {
  Json j = common_json(c, class_name);
  j.set("hidden_size", Json(c.hidden_size)), j.set("num_hidden_layers", Json(c.num_hidden_layers));
  j.set("num_attention_heads", Json(c.attention.num_attention_heads)), j.set("intermediate_size", Json(c.mlp.intermediate_size));
  j.set("max_position_embeddings", Json(c.embedding.positions)), j.set("type_vocab_size", Json(c.embedding.token_types));
  j.set("layer_norm_eps", Json(c.norm.eps)), j.set("hidden_act", Json(c.mlp.activation == Activation::gelu_tanh ? "gelu_new" : name_of(c.mlp.activation)));
  return j;
}

PEFT_INLINE TransformerConfig bert_from_json(const Json& json) {
  TransformerConfig c = bert_from_json_as(json, "bert");
  if (!json.get("pad_token_id")) c.pad_token_id = c.embedding.padding_idx = 0;
  make_encoder(json, c, Activation::tanh, c.mlp.activation);
  return c;
}
PEFT_INLINE Json bert_to_json(const TransformerConfig& c) { return bert_to_json_as(c, "Bert"); }
/// An encoder without a head, as GGUF has it: its pooler is not in the file.
PEFT_INLINE TransformerConfig bert_from_gguf(const GgufFile& file) {
  const GgufFields f(file, "bert");
  TransformerConfig c;
  c.model_type = "bert";
  c.name = f.text("general.name", "");
  if (f.find("attention.causal") && f.find("attention.causal")->boolean()) throw NotSupported("config", "attention.causal true is not supported for bert");
  c.vocab_size = f.vocabulary(), c.hidden_size = f.integer("embedding_length"), c.num_hidden_layers = f.integer("block_count");
  c.max_position_embeddings = c.embedding.positions = f.integer("context_length");
  c.embedding.token_types = f.integer("tokenizer.ggml.token_type_count", 1);
  c.norm.eps = f.number("attention.layer_norm_epsilon");
  c.attention.num_attention_heads = f.integer("attention.head_count");
  c.mlp.activation = Activation::gelu, c.mlp.intermediate_size = f.integer("feed_forward_length");
  c.pad_token_id = f.integer("tokenizer.ggml.padding_token_id", 0), c.embedding.padding_idx = std::int32_t(c.pad_token_id);
  make_encoder(Json::make_object(), c, Activation::tanh, c.mlp.activation);
  return c;
}

PEFT_INLINE TransformerConfig roberta_from_json(const Json& json, const char* model_type) {
  TransformerConfig c = bert_from_json_as(json, model_type);
  if (!json.get("pad_token_id")) c.pad_token_id = c.embedding.padding_idx = 1;
  if (c.pad_token_id < 0) throw ConfigError("config", "pad_token_id is null; positions of RoBERTa begin behind it");
  c.embedding.first_position = c.pad_token_id + 1, c.embedding.padding_has_position = false;
  c.max_position_embeddings -= c.embedding.first_position;
  make_encoder(json, c, Activation::tanh, Activation::gelu);
  return c;
}

PEFT_INLINE TransformerConfig distilbert_from_json(const Json& json) {
  const ConfigFields f(json);
  TransformerConfig c;
  c.model_type = "distilbert";
  refuse_other(f, "quantization_config", Json());
  c.vocab_size = f.integer("vocab_size", 30522), c.hidden_size = f.integer("dim", 768), c.num_hidden_layers = f.integer("n_layers", 6);
  c.max_position_embeddings = c.embedding.positions = f.integer("max_position_embeddings", 512);
  c.norm.eps = 1e-12;
  c.attention.num_attention_heads = f.integer("n_heads", 12);
  c.mlp.activation = activation_named("activation", f.string("activation", "gelu")), c.mlp.intermediate_size = f.integer("hidden_dim", 3072);
  read_token_ids(json, c);
  if (!json.get("pad_token_id")) c.pad_token_id = c.embedding.padding_idx = 0;
  make_encoder(json, c, Activation::relu, c.mlp.activation);
  if (c.head.task == TaskType::feature_extraction) c.head.dense.reset(), c.head.pooling = Pooling::none;
  return c;
}
PEFT_INLINE Json distilbert_to_json(const TransformerConfig& c) {
  Json j = common_json(c, "DistilBert");
  j.set("dim", Json(c.hidden_size)), j.set("n_layers", Json(c.num_hidden_layers)), j.set("n_heads", Json(c.attention.num_attention_heads));
  j.set("hidden_dim", Json(c.mlp.intermediate_size)), j.set("max_position_embeddings", Json(c.embedding.positions));
  j.set("activation", Json(c.mlp.activation == Activation::gelu_tanh ? "gelu_new" : name_of(c.mlp.activation)));
  return j;
}

inline constexpr std::array<TensorName, 21> bert_names = {{
    {"embed_tokens", "bert.embeddings.word_embeddings", "token_embd"},
    {"embed_positions", "bert.embeddings.position_embeddings", "position_embd"},
    {"embed_token_types", "bert.embeddings.token_type_embeddings", "token_types"},
    {"embedding_norm", "bert.embeddings.LayerNorm", "token_embd_norm"},
    {"layers.{}.self_attn.q_proj", "bert.encoder.layer.{}.attention.self.query", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "bert.encoder.layer.{}.attention.self.key", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "bert.encoder.layer.{}.attention.self.value", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "bert.encoder.layer.{}.attention.output.dense", "blk.{}.attn_output"},
    {"layers.{}.attention_join.norm", "bert.encoder.layer.{}.attention.output.LayerNorm", "blk.{}.attn_output_norm"},
    {"layers.{}.mlp.up_proj", "bert.encoder.layer.{}.intermediate.dense", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "bert.encoder.layer.{}.output.dense", "blk.{}.ffn_down"},
    {"layers.{}.mlp_join.norm", "bert.encoder.layer.{}.output.LayerNorm", "blk.{}.layer_output_norm"},
    {"feature_extraction.dense", "bert.pooler.dense"},
    {"seq_cls.dense", "bert.pooler.dense"},
    {"seq_cls.out", "classifier"},
    {"token_cls.out", "classifier"},
    {"question_ans.out", "qa_outputs"},
    {"masked_lm.dense", "cls.predictions.transform.dense"},
    {"masked_lm.norm", "cls.predictions.transform.LayerNorm"},
    {"masked_lm.out", "cls.predictions.decoder"},
    {"masked_lm.out.bias", "cls.predictions.bias"},
}};
inline constexpr std::array<TensorName, 21> roberta_names = {{
    {"embed_tokens", "roberta.embeddings.word_embeddings"},
    {"embed_positions", "roberta.embeddings.position_embeddings"},
    {"embed_token_types", "roberta.embeddings.token_type_embeddings"},
    {"embedding_norm", "roberta.embeddings.LayerNorm"},
    {"layers.{}.self_attn.q_proj", "roberta.encoder.layer.{}.attention.self.query"},
    {"layers.{}.self_attn.k_proj", "roberta.encoder.layer.{}.attention.self.key"},
    {"layers.{}.self_attn.v_proj", "roberta.encoder.layer.{}.attention.self.value"},
    {"layers.{}.self_attn.o_proj", "roberta.encoder.layer.{}.attention.output.dense"},
    {"layers.{}.attention_join.norm", "roberta.encoder.layer.{}.attention.output.LayerNorm"},
    {"layers.{}.mlp.up_proj", "roberta.encoder.layer.{}.intermediate.dense"},
    {"layers.{}.mlp.down_proj", "roberta.encoder.layer.{}.output.dense"},
    {"layers.{}.mlp_join.norm", "roberta.encoder.layer.{}.output.LayerNorm"},
    {"feature_extraction.dense", "roberta.pooler.dense"},
    {"seq_cls.dense", "classifier.dense"},
    {"seq_cls.out", "classifier.out_proj"},
    {"token_cls.out", "classifier"},
    {"question_ans.out", "qa_outputs"},
    {"masked_lm.dense", "lm_head.dense"},
    {"masked_lm.norm", "lm_head.layer_norm"},
    {"masked_lm.out", "lm_head.decoder"},
    {"masked_lm.out.bias", "lm_head.bias"},
}};
inline constexpr std::array<TensorName, 18> distilbert_names = {{
    {"embed_tokens", "distilbert.embeddings.word_embeddings"},
    {"embed_positions", "distilbert.embeddings.position_embeddings"},
    {"embedding_norm", "distilbert.embeddings.LayerNorm"},
    {"layers.{}.self_attn.q_proj", "distilbert.transformer.layer.{}.attention.q_lin"},
    {"layers.{}.self_attn.k_proj", "distilbert.transformer.layer.{}.attention.k_lin"},
    {"layers.{}.self_attn.v_proj", "distilbert.transformer.layer.{}.attention.v_lin"},
    {"layers.{}.self_attn.o_proj", "distilbert.transformer.layer.{}.attention.out_lin"},
    {"layers.{}.attention_join.norm", "distilbert.transformer.layer.{}.sa_layer_norm"},
    {"layers.{}.mlp.up_proj", "distilbert.transformer.layer.{}.ffn.lin1"},
    {"layers.{}.mlp.down_proj", "distilbert.transformer.layer.{}.ffn.lin2"},
    {"layers.{}.mlp_join.norm", "distilbert.transformer.layer.{}.output_layer_norm"},
    {"seq_cls.dense", "pre_classifier"},
    {"seq_cls.out", "classifier"},
    {"token_cls.out", "classifier"},
    {"question_ans.out", "qa_outputs"},
    {"masked_lm.dense", "vocab_transform"},
    {"masked_lm.norm", "vocab_layer_norm"},
    {"masked_lm.out", "vocab_projector"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& bert_architecture() {
  static const Architecture bert = {"bert", "bert", "bert", detail::bert_from_json, detail::bert_to_json, detail::bert_from_gguf, detail::bert_names};
  return bert;
}
PEFT_INLINE const Architecture& roberta_architecture() {
  static const Architecture roberta = {"roberta",
                                       nullptr,
                                       "roberta",
                                       [](const Json& json) { return detail::roberta_from_json(json, "roberta"); },
                                       [](const TransformerConfig& c) { return detail::bert_to_json_as(c, "Roberta"); },
                                       nullptr,
                                       detail::roberta_names};
  return roberta;
}
PEFT_INLINE const Architecture& xlm_roberta_architecture() {
  static const Architecture xlm_roberta = {"xlm-roberta",
                                           nullptr,
                                           "roberta",
                                           [](const Json& json) { return detail::roberta_from_json(json, "xlm-roberta"); },
                                           [](const TransformerConfig& c) { return detail::bert_to_json_as(c, "XLMRoberta"); },
                                           nullptr,
                                           detail::roberta_names};
  return xlm_roberta;
}
PEFT_INLINE const Architecture& distilbert_architecture() {
  static const Architecture distilbert = {
      "distilbert", nullptr, "distilbert", detail::distilbert_from_json, detail::distilbert_to_json, nullptr, detail::distilbert_names};
  return distilbert;
}

}  // namespace peft
