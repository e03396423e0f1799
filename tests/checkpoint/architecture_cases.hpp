// SPDX-License-Identifier: Apache-2.0
// Every architecture as a file: two layers, tensors by the names that transformers gives them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/model_files.hpp"
#include "peft/checkpoint/load.hpp"
#include "peft/io/safetensors.hpp"
#include "support/gradients.hpp"

namespace peft::testing {

struct FileTensor {
  const char* name;  // without ".weight"; {} is the layer
  Shape shape;
  bool bias = false;  // there is one, as long as the rows of the weight (of a (in, out) matrix: the columns)
  bool turned = false;
};
struct ArchitectureCase {
  const char* name;
  std::string config;
  std::vector<FileTensor> tensors;
};

inline constexpr std::int64_t V = 11, H = 8, D = 4, I = 6;  // vocabulary, hidden size, head, inner; two heads, for decoders one of keys

inline const std::string llama_keys =
    R"("vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
       "intermediate_size": 6, "pad_token_id": 1, "max_position_embeddings": 64)";
inline const std::string bert_keys =
    R"("vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 6, "pad_token_id": 1,
       "max_position_embeddings": 16, "type_vocab_size": 2)";
inline const std::string gpt2_keys = R"("vocab_size": 11, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 6, "n_positions": 16, "pad_token_id": 1)";
inline const std::string distilbert_keys =
    R"("vocab_size": 11, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 6, "pad_token_id": 1, "max_position_embeddings": 16)";

inline std::vector<FileTensor> operator+(std::vector<FileTensor> a, const std::vector<FileTensor>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline std::vector<FileTensor> llama_like(bool qkv_bias, bool tied) {
  std::vector<FileTensor> all = {{"model.embed_tokens", {V, H}},
                                 {"model.layers.{}.input_layernorm", {H}},
                                 {"model.layers.{}.self_attn.q_proj", {2 * D, H}, qkv_bias},
                                 {"model.layers.{}.self_attn.k_proj", {D, H}, qkv_bias},
                                 {"model.layers.{}.self_attn.v_proj", {D, H}, qkv_bias},
                                 {"model.layers.{}.self_attn.o_proj", {H, 2 * D}},
                                 {"model.layers.{}.post_attention_layernorm", {H}},
                                 {"model.layers.{}.mlp.down_proj", {H, I}},
                                 {"model.norm", {H}}};
  if (!tied) all.push_back({"lm_head", {V, H}});
  return all;
}
inline const std::vector<FileTensor> gate_and_up = {{"model.layers.{}.mlp.gate_proj", {I, H}}, {"model.layers.{}.mlp.up_proj", {I, H}}};
inline const std::vector<FileTensor> gate_up = {{"model.layers.{}.mlp.gate_up_proj", {2 * I, H}}};
inline const std::string chatglm_keys =
    R"("padded_vocab_size": 11, "hidden_size": 8, "num_layers": 2, "num_attention_heads": 2, "multi_query_attention": true, "multi_query_group_num": 1,
       "kv_channels": 4, "ffn_hidden_size": 6, "add_qkv_bias": true, "add_bias_linear": false, "pad_token_id": 0, "seq_length": 64)";
inline const std::string chatglm_6b_keys =
    R"("vocab_size": 11, "hidden_size": 8, "num_layers": 2, "num_attention_heads": 2, "inner_hidden_size": 6, "bos_token_id": 1, "eos_token_id": 9,
       "gmask_token_id": 0, "mask_token_id": 10, "max_sequence_length": 64, "position_encoding_2d": true)";
inline const std::vector<FileTensor> gpt2_tensors = {{"transformer.wte", {V, H}},
                                                     {"transformer.wpe", {16, H}},
                                                     {"transformer.h.{}.ln_1", {H}, true},
                                                     {"transformer.h.{}.attn.c_attn", {H, 3 * H}, true, true},
                                                     {"transformer.h.{}.attn.c_proj", {H, H}, true, true},
                                                     {"transformer.h.{}.ln_2", {H}, true},
                                                     {"transformer.h.{}.mlp.c_fc", {H, I}, true, true},
                                                     {"transformer.h.{}.mlp.c_proj", {I, H}, true, true},
                                                     {"transformer.ln_f", {H}, true}};
// T5's modules; the heads are 3 wide, so that they do not add up to the hidden size.
inline std::vector<FileTensor> t5_tensors(bool gated, bool tied) {
  std::vector<FileTensor> all = {{"shared", {V, H}},
                                 {"encoder.block.0.layer.0.SelfAttention.relative_attention_bias", {4, 2}},
                                 {"encoder.final_layer_norm", {H}},
                                 {"decoder.block.0.layer.0.SelfAttention.relative_attention_bias", {4, 2}},
                                 {"decoder.final_layer_norm", {H}}};
#define PEFT_T5_ATTENTION(layer, name)                                                                                       \
  {layer ".layer_norm", {H}}, {layer "." name ".q", {6, H}}, {layer "." name ".k", {6, H}}, {layer "." name ".v", {6, H}}, { \
    layer "." name ".o", { H, 6 }                                                                                            \
  }
  all = all + std::vector<FileTensor>{PEFT_T5_ATTENTION("encoder.block.{}.layer.0", "SelfAttention"),
                                      PEFT_T5_ATTENTION("decoder.block.{}.layer.0", "SelfAttention"),
                                      PEFT_T5_ATTENTION("decoder.block.{}.layer.1", "EncDecAttention")};
#undef PEFT_T5_ATTENTION
  all = all + std::vector<FileTensor>{{"encoder.block.{}.layer.1.layer_norm", {H}},
                                      {"encoder.block.{}.layer.1.DenseReluDense.wo", {H, I}},
                                      {"decoder.block.{}.layer.2.layer_norm", {H}},
                                      {"decoder.block.{}.layer.2.DenseReluDense.wo", {H, I}}};
  if (gated)
    all = all + std::vector<FileTensor>{{"encoder.block.{}.layer.1.DenseReluDense.wi_0", {I, H}},
                                        {"encoder.block.{}.layer.1.DenseReluDense.wi_1", {I, H}},
                                        {"decoder.block.{}.layer.2.DenseReluDense.wi_0", {I, H}},
                                        {"decoder.block.{}.layer.2.DenseReluDense.wi_1", {I, H}}};
  else
    all = all + std::vector<FileTensor>{{"encoder.block.{}.layer.1.DenseReluDense.wi", {I, H}}, {"decoder.block.{}.layer.2.DenseReluDense.wi", {I, H}}};
  if (!tied) all.push_back({"lm_head", {V, H}});
  return all;
}
inline const std::string t5_keys =
    R"("vocab_size": 11, "d_model": 8, "num_layers": 2, "num_heads": 2, "d_kv": 3, "d_ff": 6, "relative_attention_num_buckets": 4,
       "relative_attention_max_distance": 6, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0)";
// BERT's modules below a prefix ("bert." or none).
#define PEFT_BERT_TENSORS(prefix)                                                                                                                         \
  {prefix "embeddings.word_embeddings", {V, H}}, {prefix "embeddings.position_embeddings", {16, H}}, {prefix "embeddings.token_type_embeddings", {2, H}}, \
      {prefix "embeddings.LayerNorm", {H}, true}, {prefix "encoder.layer.{}.attention.self.query", {H, H}, true},                                         \
      {prefix "encoder.layer.{}.attention.self.key", {H, H}, true}, {prefix "encoder.layer.{}.attention.self.value", {H, H}, true},                       \
      {prefix "encoder.layer.{}.attention.output.dense", {H, H}, true}, {prefix "encoder.layer.{}.attention.output.LayerNorm", {H}, true},                \
      {prefix "encoder.layer.{}.intermediate.dense", {I, H}, true}, {prefix "encoder.layer.{}.output.dense", {H, I}, true}, {                             \
    prefix "encoder.layer.{}.output.LayerNorm", {H}, true                                                                                                 \
  }
inline const std::vector<FileTensor> bert_tensors = {PEFT_BERT_TENSORS("bert.")}, roberta_tensors = {PEFT_BERT_TENSORS("roberta.")},
                                     bare_bert_tensors = {PEFT_BERT_TENSORS("")};
#undef PEFT_BERT_TENSORS
inline const std::vector<FileTensor> distilbert_tensors = {{"distilbert.embeddings.word_embeddings", {V, H}},
                                                           {"distilbert.embeddings.position_embeddings", {16, H}},
                                                           {"distilbert.embeddings.LayerNorm", {H}, true},
                                                           {"distilbert.transformer.layer.{}.attention.q_lin", {H, H}, true},
                                                           {"distilbert.transformer.layer.{}.attention.k_lin", {H, H}, true},
                                                           {"distilbert.transformer.layer.{}.attention.v_lin", {H, H}, true},
                                                           {"distilbert.transformer.layer.{}.attention.out_lin", {H, H}, true},
                                                           {"distilbert.transformer.layer.{}.sa_layer_norm", {H}, true},
                                                           {"distilbert.transformer.layer.{}.ffn.lin1", {I, H}, true},
                                                           {"distilbert.transformer.layer.{}.ffn.lin2", {H, I}, true},
                                                           {"distilbert.transformer.layer.{}.output_layer_norm", {H}, true}};

inline std::vector<ArchitectureCase> all_cases() {
  const auto of = [](const char* type, const char* architecture, const std::string& keys, const std::string& more = "") {
    return R"({"model_type": ")" + std::string(type) + R"(", "architectures": [")" + architecture + "\"], " + keys + more + "}";
  };
  return {
      {"mistral", of("mistral", "MistralForCausalLM", llama_keys, R"(, "sliding_window": 3)"), llama_like(false, false) + gate_and_up},
      {"qwen2", of("qwen2", "Qwen2ForCausalLM", llama_keys, R"(, "tie_word_embeddings": true)"), llama_like(true, true) + gate_and_up},
      {"qwen2 with a window in its second layer",
       of("qwen2", "Qwen2ForCausalLM", llama_keys, R"(, "use_sliding_window": true, "sliding_window": 2, "max_window_layers": 1)"),
       llama_like(true, false) + gate_and_up},
      {"qwen3", of("qwen3", "Qwen3ForCausalLM", llama_keys),
       llama_like(false, false) + gate_and_up + std::vector<FileTensor>{{"model.layers.{}.self_attn.q_norm", {D}}, {"model.layers.{}.self_attn.k_norm", {D}}}},
      {"gemma", of("gemma", "GemmaForCausalLM", llama_keys), llama_like(false, true) + gate_and_up},
      {"gemma2",
       of("gemma2", "Gemma2ForCausalLM", llama_keys,
          R"(, "query_pre_attn_scalar": 4, "sliding_window": 2, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.5)"),
       llama_like(false, true) + gate_and_up +
           std::vector<FileTensor>{{"model.layers.{}.pre_feedforward_layernorm", {H}}, {"model.layers.{}.post_feedforward_layernorm", {H}}}},
      {"glm", of("glm", "GlmForCausalLM", llama_keys), llama_like(true, false) + gate_up},
      {"glm4", of("glm4", "Glm4ForCausalLM", llama_keys),
       llama_like(true, false) + gate_up +
           std::vector<FileTensor>{{"model.layers.{}.post_self_attn_layernorm", {H}}, {"model.layers.{}.post_mlp_layernorm", {H}}}},
      {"phi3", of("phi3", "Phi3ForCausalLM", llama_keys, R"(, "partial_rotary_factor": 0.5)"),
       std::vector<FileTensor>{{"model.embed_tokens", {V, H}},
                               {"model.layers.{}.input_layernorm", {H}},
                               {"model.layers.{}.self_attn.qkv_proj", {4 * D, H}},
                               {"model.layers.{}.self_attn.o_proj", {H, 2 * D}},
                               {"model.layers.{}.post_attention_layernorm", {H}},
                               {"model.layers.{}.mlp.down_proj", {H, I}},
                               {"model.norm", {H}},
                               {"lm_head", {V, H}}} +
           gate_up},
      {"t5", of("t5", "T5ForConditionalGeneration", t5_keys), t5_tensors(false, true)},
      {"mt5 with a head of its own", of("mt5", "MT5ForConditionalGeneration", t5_keys, R"(, "tie_word_embeddings": false)"), t5_tensors(true, false)},
      {"chatglm",
       of("chatglm", "ChatGLMForConditionalGeneration", chatglm_keys),
       {{"transformer.embedding.word_embeddings", {V, H}},
        {"transformer.encoder.layers.{}.input_layernorm", {H}},
        {"transformer.encoder.layers.{}.self_attention.query_key_value", {4 * D, H}, true},
        {"transformer.encoder.layers.{}.self_attention.dense", {H, 2 * D}},
        {"transformer.encoder.layers.{}.post_attention_layernorm", {H}},
        {"transformer.encoder.layers.{}.mlp.dense_h_to_4h", {2 * I, H}},
        {"transformer.encoder.layers.{}.mlp.dense_4h_to_h", {H, I}},
        {"transformer.encoder.final_layernorm", {H}},
        {"transformer.output_layer", {V, H}}}},
      {"chatglm-6b",
       of("chatglm", "ChatGLMForConditionalGeneration", chatglm_6b_keys),
       {{"transformer.word_embeddings", {V, H}},
        {"transformer.layers.{}.input_layernorm", {H}, true},
        {"transformer.layers.{}.attention.query_key_value", {3 * H, H}, true},
        {"transformer.layers.{}.attention.dense", {H, H}, true},
        {"transformer.layers.{}.post_attention_layernorm", {H}, true},
        {"transformer.layers.{}.mlp.dense_h_to_4h", {I, H}, true},
        {"transformer.layers.{}.mlp.dense_4h_to_h", {H, I}, true},
        {"transformer.final_layernorm", {H}, true},
        {"lm_head", {V, H}}}},
      {"opt",
       of("opt", "OPTForCausalLM", bert_keys, R"(, "ffn_dim": 6)"),
       {{"model.decoder.embed_tokens", {V, H}},
        {"model.decoder.embed_positions", {18, H}},
        {"model.decoder.layers.{}.self_attn_layer_norm", {H}, true},
        {"model.decoder.layers.{}.self_attn.q_proj", {H, H}, true},
        {"model.decoder.layers.{}.self_attn.k_proj", {H, H}, true},
        {"model.decoder.layers.{}.self_attn.v_proj", {H, H}, true},
        {"model.decoder.layers.{}.self_attn.out_proj", {H, H}, true},
        {"model.decoder.layers.{}.final_layer_norm", {H}, true},
        {"model.decoder.layers.{}.fc1", {I, H}, true},
        {"model.decoder.layers.{}.fc2", {H, I}, true},
        {"model.decoder.final_layer_norm", {H}, true}}},
      {"gpt_neox",
       of("gpt_neox", "GPTNeoXForCausalLM", bert_keys, R"(, "rotary_pct": 0.5)"),
       {{"gpt_neox.embed_in", {V, H}},
        {"gpt_neox.layers.{}.input_layernorm", {H}, true},
        {"gpt_neox.layers.{}.attention.query_key_value", {3 * H, H}, true},
        {"gpt_neox.layers.{}.attention.dense", {H, H}, true},
        {"gpt_neox.layers.{}.post_attention_layernorm", {H}, true},
        {"gpt_neox.layers.{}.mlp.dense_h_to_4h", {I, H}, true},
        {"gpt_neox.layers.{}.mlp.dense_4h_to_h", {H, I}, true},
        {"gpt_neox.final_layer_norm", {H}, true},
        {"embed_out", {V, H}}}},
      {"bloom",
       of("bloom", "BloomForCausalLM", R"("vocab_size": 11, "hidden_size": 8, "n_layer": 2, "n_head": 2, "pad_token_id": 1)"),
       {{"transformer.word_embeddings", {V, H}},
        {"transformer.word_embeddings_layernorm", {H}, true},
        {"transformer.h.{}.input_layernorm", {H}, true},
        {"transformer.h.{}.self_attention.query_key_value", {3 * H, H}, true},
        {"transformer.h.{}.self_attention.dense", {H, H}, true},
        {"transformer.h.{}.post_attention_layernorm", {H}, true},
        {"transformer.h.{}.mlp.dense_h_to_4h", {4 * H, H}, true},
        {"transformer.h.{}.mlp.dense_4h_to_h", {H, 4 * H}, true},
        {"transformer.ln_f", {H}, true}}},
      {"gpt2", of("gpt2", "GPT2LMHeadModel", gpt2_keys), gpt2_tensors},
      {"llama that classifies sequences", of("llama", "LlamaForSequenceClassification", llama_keys, R"(, "num_labels": 3)"),
       llama_like(false, true) + gate_and_up + std::vector<FileTensor>{{"score", {3, H}}}},
      {"gpt2 that classifies tokens", of("gpt2", "GPT2ForTokenClassification", gpt2_keys),
       gpt2_tensors + std::vector<FileTensor>{{"classifier", {2, H}, true}}},
      {"bert that classifies sequences", of("bert", "BertForSequenceClassification", bert_keys, R"(, "id2label": {"0": "a", "1": "b", "2": "c"})"),
       bert_tensors + std::vector<FileTensor>{{"bert.pooler.dense", {H, H}, true}, {"classifier", {3, H}, true}}},
      {"bert with masked words", of("bert", "BertForMaskedLM", bert_keys),
       bert_tensors + std::vector<FileTensor>{{"cls.predictions.transform.dense", {H, H}, true},
                                              {"cls.predictions.transform.LayerNorm", {H}, true},
                                              {"cls.predictions.bias", {V}}}},
      {"bert that answers questions", of("bert", "BertForQuestionAnswering", bert_keys), bert_tensors + std::vector<FileTensor>{{"qa_outputs", {2, H}, true}}},
      {"bert alone", of("bert", "BertModel", bert_keys), bare_bert_tensors + std::vector<FileTensor>{{"pooler.dense", {H, H}, true}}},
      {"roberta that classifies sequences", of("roberta", "RobertaForSequenceClassification", bert_keys),
       roberta_tensors + std::vector<FileTensor>{{"classifier.dense", {H, H}, true}, {"classifier.out_proj", {2, H}, true}}},
      {"xlm-roberta with masked words", of("xlm-roberta", "XLMRobertaForMaskedLM", bert_keys),
       roberta_tensors + std::vector<FileTensor>{{"lm_head.dense", {H, H}, true}, {"lm_head.layer_norm", {H}, true}, {"lm_head.bias", {V}}}},
      {"distilbert that classifies sequences", of("distilbert", "DistilBertForSequenceClassification", distilbert_keys),
       distilbert_tensors + std::vector<FileTensor>{{"pre_classifier", {H, H}, true}, {"classifier", {2, H}, true}}},
      {"distilbert with masked words", of("distilbert", "DistilBertForMaskedLM", distilbert_keys),
       distilbert_tensors + std::vector<FileTensor>{{"vocab_transform", {H, H}, true}, {"vocab_layer_norm", {H}, true}, {"vocab_projector.bias", {V}}}},
  };
}

inline void write_case(const ArchitectureCase& c, const Folder& folder) {
  write_file(folder / "config.json", c.config);
  Random random(5);
  std::vector<std::pair<std::string, Tensor<double>>> tensors;
  const auto add = [&](const std::string& name, const Shape& shape) {
    Tensor<double> values(shape);
    const double mean = shape.rank() == 1 && name.ends_with("weight") ? 1 : 0, deviation = shape.rank() == 1 ? 0.2 : 0.5;
    for (double& value : values.span()) value = mean + deviation * random.normal();
    tensors.emplace_back(name, values);
  };
  for (const FileTensor& t : c.tensors)
    for (std::int64_t layer = 0; layer < (std::string_view(t.name).find("{}") == std::string_view::npos ? 1 : 2); layer++) {
      const std::string name = tensor_name(t.name, layer);
      add(name.ends_with(".bias") ? name : name + ".weight", t.shape);
      if (t.bias) add(name + ".bias", {t.turned ? t.shape[1] : t.shape[0]});
    }
  std::vector<TensorToWrite> all;
  for (const auto& [name, values] : tensors) all.push_back({name, DType::f64, values.shape(), values.data()});
  write_safetensors(folder / "model.safetensors", all);
}

// No padding among them: its row gets no gradient by agreement, which differences do not know.
inline std::vector<std::int32_t> case_ids(std::int64_t n) {
  std::vector<std::int32_t> ids = random_ids(n, V - 2);
  for (auto& id : ids) id += 2;
  return ids;
}
// With a blank in rows 0 … 4, and another one behind them.
inline std::vector<std::int32_t> case_ids(std::int64_t n, const TransformerConfig& config) {
  std::vector<std::int32_t> ids = case_ids(n);
  if (const auto& blank = config.blank_tokens) ids[1] = blank->gmask, ids[3] = blank->start, ids[6] = blank->mask, ids[7] = blank->start;
  return ids;
}
// The current pass; what an encoder-decoder decodes has one source that is shorter and one that is longer.
template <Scalar T>
Pass<T> case_pass(const Transformer<T>& model) {
  Pass<T> pass = *Pass<T>::current();
  if (!model.encoder_layers.empty()) model.encode(pass, Sequences::of_lengths(std::vector<std::int64_t>{3, 6}), case_ids(9));
  return pass;
}
// What the model's task makes of two sequences of 5 and 4 tokens.
template <Scalar T>
Variable<T> case_loss(const Transformer<T>& model) {
  const Pass<T> pass = case_pass(model);
  const PassScope<T> scope(pass);
  const std::vector<std::int32_t> types = {0, 0, 1, 1, 1, 0, 1, 0, 1};
  const auto hidden = model.embed_token_types ? model.hidden_states(case_ids(9), types) : model.hidden_states(case_ids(9, model.config));
  const std::vector<std::int32_t> classes = {1, 0}, starts = {3, 0}, ends = {4, ignore_index};
  switch (model.config.head.task) {
    case TaskType::seq_cls:
      return model.loss(hidden, classes);
    case TaskType::question_ans:
      return model.span_loss(hidden, starts, ends);
    case TaskType::feature_extraction:
      return hidden;
    default:
      return model.loss(hidden, random_labels(9, model.config.head_size()));
  }
}
template <class M>
Tensor<float> case_output(const M& transformer) {
  const Pass<float> pass = case_pass(transformer);
  const PassScope<float> scope(pass);
  const auto hidden = transformer.hidden_states(case_ids(9, transformer.config));
  return (transformer.config.head.task == TaskType::feature_extraction ? hidden : transformer.logits(hidden)).value().clone();
}
inline Tensor<float> case_output_alone(const Transformer<float>& model) {
  const Pass<float> pass = pass_over<float>({5, 4});
  const PassScope<float> scope(pass);
  return case_output(model);
}

}  // namespace peft::testing
