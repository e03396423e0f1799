// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/impl/json_fields.hpp"
#include "peft/models/t5.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig t5_from_json(const Json& json, const char* model_type) {
  const ConfigFields f(json);
  const bool mt5 = std::string_view(model_type) == "mt5";
  refuse_other(f, "is_encoder_decoder", Json(true)), refuse_other(f, "quantization_config", Json());
  TransformerConfig c;
  c.model_type = model_type;
  c.vocab_size = f.integer("vocab_size", mt5 ? 250112 : 32128), c.hidden_size = f.integer("d_model", 512);
  c.num_encoder_layers = f.integer("num_layers", mt5 ? 8 : 6), c.num_hidden_layers = f.integer("num_decoder_layers", c.num_encoder_layers);
  if (c.num_encoder_layers < 1) throw ConfigError("config", "num_layers is " + std::to_string(c.num_encoder_layers) + "; at least 1 is wanted");
  c.max_position_embeddings = f.integer("n_positions", 512);  // what it was trained on; relative positions have no end
  c.norm = {NormKind::rms, f.number("layer_norm_epsilon", 1e-6), 0};
  AttentionConfig& a = c.attention;
  a.num_attention_heads = a.num_key_value_heads = f.integer("num_heads", mt5 ? 6 : 8), a.head_dim = f.integer("d_kv", 64);
  a.scale = 1;
  a.relative_buckets = f.integer("relative_attention_num_buckets", 32), a.relative_max_distance = f.integer("relative_attention_max_distance", 128);
  // Fewer, or a distance within the buckets that are exact, leave nothing for the logarithm.
  if (a.relative_buckets < 4)
    throw ConfigError("config", "relative_attention_num_buckets is " + std::to_string(a.relative_buckets) + "; at least 4 are wanted");
  if (a.relative_max_distance <= a.relative_buckets / 2)
    throw ConfigError("config", "relative_attention_max_distance is " + std::to_string(a.relative_max_distance) + "; more than half of the " +
                                    std::to_string(a.relative_buckets) + " buckets is wanted");
  std::string mlp = f.string("feed_forward_proj", mt5 ? "gated-gelu" : "relu");
  const bool gated = mlp.starts_with("gated-");
  if (gated) mlp = mlp == "gated-gelu" ? "gelu_new" : mlp.substr(6);
  c.mlp = {gated ? MlpKind::gated : MlpKind::plain, activation_named("feed_forward_proj", mlp), f.integer("d_ff", mt5 ? 1024 : 2048), false, false};
  HeadConfig& h = c.head;
  h.task = task_type(json, TaskType::seq_2_seq_lm);
  if (h.task == TaskType::causal_lm) h.task = TaskType::seq_2_seq_lm;  // "T5WithLMHeadModel", as old files call it
  if (h.task != TaskType::seq_2_seq_lm)
    throw NotSupported(
        "config", "architectures " + json.get("architectures")->dump() + " is not supported for an encoder-decoder; supported is …ForConditionalGeneration");
  h.tied = f.boolean("tie_word_embeddings", true);
  if (!mt5 && f.boolean("scale_decoder_outputs", h.tied)) h.scale = 1 / std::sqrt(double(c.hidden_size));
  read_token_ids(json, c);
  if (!json.get("pad_token_id")) c.pad_token_id = 0;
  if (!json.get("eos_token_id")) c.eos_token_ids = {1};
  c.embedding.padding_idx = -1;  // the row of the padding, which decoding begins with, learns like any other
  c.decoder_start_token_id = f.integer("decoder_start_token_id", c.pad_token_id);
  if (c.decoder_start_token_id < 0 || c.decoder_start_token_id >= c.vocab_size)
    throw ConfigError("config",
                      "decoder_start_token_id is " + std::to_string(c.decoder_start_token_id) + " of a vocabulary of " + std::to_string(c.vocab_size));
  return c;
}

PEFT_INLINE Json t5_to_json(const TransformerConfig& c) {
  const bool mt5 = c.model_type == "mt5", gated = c.mlp.kind == MlpKind::gated;
  Json j = common_json(c, mt5 ? "MT5" : "T5");
  const AttentionConfig& a = c.attention;
  j.set("d_model", Json(c.hidden_size)), j.set("d_kv", Json(a.head_dim)), j.set("d_ff", Json(c.mlp.intermediate_size));
  j.set("num_layers", Json(c.num_encoder_layers)), j.set("num_decoder_layers", Json(c.num_hidden_layers)), j.set("num_heads", Json(a.num_attention_heads));
  j.set("n_positions", Json(c.max_position_embeddings)), j.set("layer_norm_epsilon", Json(c.norm.eps));
  j.set("relative_attention_num_buckets", Json(a.relative_buckets)), j.set("relative_attention_max_distance", Json(a.relative_max_distance));
  const Activation f = c.mlp.activation;
  const std::string name = f == Activation::gelu_tanh ? (gated ? "gelu" : "gelu_new") : name_of(f);
  j.set("feed_forward_proj", Json((gated ? "gated-" : "") + name));
  j.set("is_encoder_decoder", Json(true)), j.set("decoder_start_token_id", Json(c.decoder_start_token_id));
  if (!mt5) j.set("scale_decoder_outputs", Json(c.head.scale != 1));
  return j;
}

inline constexpr std::array<TensorName, 31> t5_names = {{
    {"embed_tokens", "shared"},
    {"encoder_positions", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"},
    {"encoder_layers.{}.input_layernorm", "encoder.block.{}.layer.0.layer_norm"},
    {"encoder_layers.{}.self_attn.q_proj", "encoder.block.{}.layer.0.SelfAttention.q"},
    {"encoder_layers.{}.self_attn.k_proj", "encoder.block.{}.layer.0.SelfAttention.k"},
    {"encoder_layers.{}.self_attn.v_proj", "encoder.block.{}.layer.0.SelfAttention.v"},
    {"encoder_layers.{}.self_attn.o_proj", "encoder.block.{}.layer.0.SelfAttention.o"},
    {"encoder_layers.{}.post_attention_layernorm", "encoder.block.{}.layer.1.layer_norm"},
    {"encoder_layers.{}.mlp.plain_up_proj", "encoder.block.{}.layer.1.DenseReluDense.wi"},
    {"encoder_layers.{}.mlp.gate_proj", "encoder.block.{}.layer.1.DenseReluDense.wi_0"},
    {"encoder_layers.{}.mlp.up_proj", "encoder.block.{}.layer.1.DenseReluDense.wi_1"},
    {"encoder_layers.{}.mlp.down_proj", "encoder.block.{}.layer.1.DenseReluDense.wo"},
    {"encoder_norm", "encoder.final_layer_norm"},
    {"relative_positions", "decoder.block.0.layer.0.SelfAttention.relative_attention_bias"},
    {"layers.{}.input_layernorm", "decoder.block.{}.layer.0.layer_norm"},
    {"layers.{}.self_attn.q_proj", "decoder.block.{}.layer.0.SelfAttention.q"},
    {"layers.{}.self_attn.k_proj", "decoder.block.{}.layer.0.SelfAttention.k"},
    {"layers.{}.self_attn.v_proj", "decoder.block.{}.layer.0.SelfAttention.v"},
    {"layers.{}.self_attn.o_proj", "decoder.block.{}.layer.0.SelfAttention.o"},
    {"layers.{}.cross_attn_layernorm", "decoder.block.{}.layer.1.layer_norm"},
    {"layers.{}.cross_attn.q_proj", "decoder.block.{}.layer.1.EncDecAttention.q"},
    {"layers.{}.cross_attn.k_proj", "decoder.block.{}.layer.1.EncDecAttention.k"},
    {"layers.{}.cross_attn.v_proj", "decoder.block.{}.layer.1.EncDecAttention.v"},
    {"layers.{}.cross_attn.o_proj", "decoder.block.{}.layer.1.EncDecAttention.o"},
    {"layers.{}.post_attention_layernorm", "decoder.block.{}.layer.2.layer_norm"},
    {"layers.{}.mlp.plain_up_proj", "decoder.block.{}.layer.2.DenseReluDense.wi"},
    {"layers.{}.mlp.gate_proj", "decoder.block.{}.layer.2.DenseReluDense.wi_0"},
    {"layers.{}.mlp.up_proj", "decoder.block.{}.layer.2.DenseReluDense.wi_1"},
    {"layers.{}.mlp.down_proj", "decoder.block.{}.layer.2.DenseReluDense.wo"},
    {"norm", "decoder.final_layer_norm"},
    {"seq_2_seq_lm.out", "lm_head"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& t5_architecture() {
  static const Architecture t5 = {"t5",    nullptr,         "", [](const Json& json) { return detail::t5_from_json(json, "t5"); }, detail::t5_to_json,
                                  nullptr, detail::t5_names};
  return t5;
}
PEFT_INLINE const Architecture& mt5_architecture() {
  static const Architecture mt5 = {"mt5",   nullptr,         "", [](const Json& json) { return detail::t5_from_json(json, "mt5"); }, detail::t5_to_json,
                                   nullptr, detail::t5_names};
  return mt5;
}

}  // namespace peft
