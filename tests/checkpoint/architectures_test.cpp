// SPDX-License-Identifier: Apache-2.0
// Every architecture as a file: two layers, tensors by the names that transformers gives them.
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/model_files.hpp"
#include "peft/adapters/bottleneck/bottleneck.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/checkpoint/adapter_file.hpp"
#include "peft/checkpoint/save.hpp"
#include "peft/checkpoint/save_gguf.hpp"
#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

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

constexpr std::int64_t V = 11, H = 8, D = 4, I = 6;  // vocabulary, hidden size, head, inner; two heads, for decoders one of keys

const std::string llama_keys =
    R"("vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
       "intermediate_size": 6, "pad_token_id": 1, "max_position_embeddings": 64)";
const std::string bert_keys =
    R"("vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 6, "pad_token_id": 1,
       "max_position_embeddings": 16, "type_vocab_size": 2)";
const std::string gpt2_keys = R"("vocab_size": 11, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 6, "n_positions": 16, "pad_token_id": 1)";
const std::string distilbert_keys =
    R"("vocab_size": 11, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 6, "pad_token_id": 1, "max_position_embeddings": 16)";

std::vector<FileTensor> operator+(std::vector<FileTensor> a, const std::vector<FileTensor>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<FileTensor> llama_like(bool qkv_bias, bool tied) {
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
const std::vector<FileTensor> gate_and_up = {{"model.layers.{}.mlp.gate_proj", {I, H}}, {"model.layers.{}.mlp.up_proj", {I, H}}};
const std::vector<FileTensor> gate_up = {{"model.layers.{}.mlp.gate_up_proj", {2 * I, H}}};
const std::string chatglm_keys =
    R"("padded_vocab_size": 11, "hidden_size": 8, "num_layers": 2, "num_attention_heads": 2, "multi_query_attention": true, "multi_query_group_num": 1,
       "kv_channels": 4, "ffn_hidden_size": 6, "add_qkv_bias": true, "add_bias_linear": false, "pad_token_id": 0, "seq_length": 64)";
const std::string chatglm_6b_keys =
    R"("vocab_size": 11, "hidden_size": 8, "num_layers": 2, "num_attention_heads": 2, "inner_hidden_size": 6, "bos_token_id": 1, "eos_token_id": 9,
       "gmask_token_id": 0, "mask_token_id": 10, "max_sequence_length": 64, "position_encoding_2d": true)";
const std::vector<FileTensor> gpt2_tensors = {{"transformer.wte", {V, H}},
                                              {"transformer.wpe", {16, H}},
                                              {"transformer.h.{}.ln_1", {H}, true},
                                              {"transformer.h.{}.attn.c_attn", {H, 3 * H}, true, true},
                                              {"transformer.h.{}.attn.c_proj", {H, H}, true, true},
                                              {"transformer.h.{}.ln_2", {H}, true},
                                              {"transformer.h.{}.mlp.c_fc", {H, I}, true, true},
                                              {"transformer.h.{}.mlp.c_proj", {I, H}, true, true},
                                              {"transformer.ln_f", {H}, true}};
// T5's modules; the heads are 3 wide, so that they do not add up to the hidden size.
std::vector<FileTensor> t5_tensors(bool gated, bool tied) {
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
const std::string t5_keys =
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
const std::vector<FileTensor> bert_tensors = {PEFT_BERT_TENSORS("bert.")}, roberta_tensors = {PEFT_BERT_TENSORS("roberta.")},
                              bare_bert_tensors = {PEFT_BERT_TENSORS("")};
#undef PEFT_BERT_TENSORS
const std::vector<FileTensor> distilbert_tensors = {{"distilbert.embeddings.word_embeddings", {V, H}},
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

std::vector<ArchitectureCase> all_cases() {
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

void write_case(const ArchitectureCase& c, const Folder& folder) {
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
std::vector<std::int32_t> case_ids(std::int64_t n) {
  std::vector<std::int32_t> ids = random_ids(n, V - 2);
  for (auto& id : ids) id += 2;
  return ids;
}
// With a blank in rows 0 … 4, and another one behind them.
std::vector<std::int32_t> case_ids(std::int64_t n, const TransformerConfig& config) {
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
Tensor<float> case_output_alone(const Transformer<float>& model) {
  const Pass<float> pass = pass_over<float>({5, 4});
  const PassScope<float> scope(pass);
  return case_output(model);
}

}  // namespace

TEST_CASE("gradients of every architecture", "[checkpoint][gradcheck]") {
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    auto model = load_model<double>(folder.path());
    std::vector<Parameter<double>> parameters;
    for_each_parameter(model, [&](const std::string& path, Parameter<double>& p) {
      if (model.config.head.task == TaskType::feature_extraction && path.starts_with("pooler")) return;  // hidden states do not ask for it
      p.set_requires_grad(true);
      if (std::ranges::none_of(parameters, [&](const auto& other) { return other.identity() == p.identity(); })) parameters.push_back(p);
    });
    const Pass<double> pass = pass_over<double>({5, 4});
    const PassScope<double> scope(pass);
    const auto result = gradcheck([&](const Variables&) { return case_loss(model); }, {}, parameters);
    INFO(result.where);
    CHECK(result);
  }
}

TEST_CASE("a saved model of any architecture has the tensors that its file had, and computes the same", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    save_model(model, folder / "out");
    const auto names = [](const std::string& path) {
      std::map<std::string, std::string> all;
      const SafetensorsFile file = SafetensorsFile::open(path);
      for (const auto& t : file.tensors()) all[t.name] = to_string(t.shape);
      return all;
    };
    CHECK(names(folder / "out/model.safetensors") == names(folder / "model.safetensors"));
    CHECK(Json::read(folder / "out/config.json").at("architectures").dump() == Json::read(folder / "config.json").at("architectures").dump());
    CHECK_THAT(array(case_output_alone(load_model<float>(folder / "out"))), is_near<float>(array(case_output_alone(model))));
  }
}

TEST_CASE("LoRA on every Linear of any architecture: its gradient, and merged it computes the same", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    auto base = load_model<float>(folder.path());
    PeftModel tuned{base};
    tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = "all-linear", .init_lora_weights = false});
    const Pass<float> pass = tuned.pass(pass_over<float>({5, 4}).sequences);
    const PassScope<float> scope(pass);
    {
      Tape tape;
      const Variable<float> loss = case_loss(tuned.model());
      tape.backward(loss, Tensor<float>(loss.shape(), 1.0f));
      std::int64_t sites = 0;
      tuned.for_each_adapter_parameter("a", [&](const std::string& path, const Parameter<float>& p) {
        CAPTURE(path);
        CHECK(path.find("score") == std::string::npos);  // the head
        if (!path.starts_with("pooler")) CHECK(p.grad());
        sites++;
      });
      CHECK(sites >= 2 * 2 * 4);
    }
    const Tensor<float> with = case_output(tuned.model());
    const auto merged = tuned.merge_and_unload();
    CHECK_THAT(array(case_output_alone(merged)), is_near<float>(array(with), 10));
    save_model(merged, folder / "out");
    CHECK_THAT(array(case_output_alone(load_model<float>(folder / "out"))), is_near<float>(array(with), 10));
  }
}

TEST_CASE("bottleneck adapters on every architecture: nothing at first, gradients in every block, and the same from their file", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases())
    for (const char* variant : {"houlsby", "pfeiffer", "parallel"}) {
      CAPTURE(c.name, variant);
      const Folder folder;
      write_case(c, folder);
      auto base = load_model<float>(folder.path());
      PeftModel tuned{base}, loaded{base};
      const auto output = [](const PeftModel<Transformer<float>>& model) {
        const Pass<float> pass = model.pass(pass_over<float>({5, 4}).sequences);
        const PassScope<float> scope(pass);
        return case_output(model.model());
      };
      tuned.add_adapter("a", BottleneckConfig{.variant = variant, .bottleneck_size = 3, .non_linearity = "gelu"});
      CHECK(same_bits(output(tuned), case_output_alone(base)));
      std::size_t tensors = 0;
      tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<float>& p) { p.assign(random_normal<float>(p.shape(), ++tensors, 0.5)); });
      const std::size_t blocks = base.layers.size() + base.encoder_layers.size();
      CHECK(tensors == 4 * blocks * (variant == std::string("houlsby") ? 2 : 1));
      {
        const Pass<float> pass = tuned.pass(pass_over<float>({5, 4}).sequences);
        const PassScope<float> scope(pass);
        Tape tape;
        const Variable<float> loss = case_loss(tuned.model());
        tape.backward(loss, Tensor<float>(loss.shape(), 1.0f));
      }
      tuned.for_each_adapter_parameter("a", [&](const std::string& path, const Parameter<float>& p) {
        CAPTURE(path);
        CHECK(p.grad());
      });
      CHECK_FALSE(same_bits(output(tuned), case_output_alone(base)));
      save_adapter(tuned, "a", folder / "adapter");
      load_adapter(loaded, "a", folder / "adapter");
      CHECK(same_bits(output(loaded), output(tuned)));
    }
}

TEST_CASE("LoRA goes through a GGUF file on every architecture that GGUF has, A as (rank, in) and B as (out, rank)", "[checkpoint]") {
  std::int64_t written = 0;
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    auto base = load_model<float>(folder.path());
    PeftModel tuned{base}, loaded{base};
    tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = "all-linear", .init_lora_weights = false});
    try {
      save_gguf_adapter(tuned, "a", folder / "a.gguf");
    } catch (const NotSupported&) {
      continue;
    }
    written++;
    load_adapter(loaded, "a", folder / "a.gguf");
    const auto output = [](const PeftModel<Transformer<float>>& model) {
      const Pass<float> pass = model.pass(pass_over<float>({5, 4}).sequences);
      const PassScope<float> scope(pass);
      return case_output(model.model());
    };
    CHECK(same_bits(output(loaded), output(tuned)));
    CHECK_FALSE(same_bits(output(loaded), case_output_alone(base)));
    const GgufFile file = GgufFile::open(folder / "a.gguf");
    const std::string down = "blk.1.ffn_down.weight.";
    CHECK(file.find_tensor(down + "lora_a")->shape == Shape{2, I});
    CHECK(file.find_tensor(down + "lora_b")->shape == Shape{H, 2});
  }
  CHECK(written == 10);  // mistral, qwen2 twice, qwen3, gemma, gemma2, gpt2, llama, gpt2 and bert with other heads
}

TEST_CASE("a model of every architecture that GGUF has goes through a GGUF file; what GGUF cannot say is refused", "[checkpoint]") {
  std::vector<std::string> written;
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    const auto double_model = load_model<double>(folder.path());
    try {
      save_gguf_model(model, folder / "a.gguf");
    } catch (const NotSupported&) {
      CHECK_FALSE(std::filesystem::exists(folder / "a.gguf"));
      continue;
    }
    written.push_back(c.name);
    save_gguf_model(double_model, folder / "b.gguf");
    CHECK(read_file(folder / "b.gguf") == read_file(folder / "a.gguf"));
    const auto loaded = load_model<float>(folder / "a.gguf");
    CHECK(loaded.config.model_type == model.config.model_type);
    CHECK(loaded.config.bos_token_ids == model.config.bos_token_ids);
    CHECK(loaded.config.eos_token_ids == model.config.eos_token_ids);
    CHECK(loaded.config.pad_token_id == model.config.pad_token_id);
    CHECK(loaded.config.max_position_embeddings == model.config.max_position_embeddings);
    CHECK_THAT(array(case_output_alone(loaded)), is_near<float>(array(case_output_alone(model)), 10));
    save_gguf_model(loaded, folder / "again.gguf", DType::f32, folder / "a.gguf");  // from a file that lies in GGUF's order
    const auto again = GgufFile::open(folder / "again.gguf"), first = GgufFile::open(folder / "a.gguf");
    REQUIRE(again.tensors().size() == first.tensors().size());
    for (const GgufTensor& t : first.tensors()) CHECK(std::memcmp(again.find_tensor(t.name)->data, t.data, std::size_t(t.bytes)) == 0);
  }
  CHECK(written == std::vector<std::string>{"qwen2", "qwen3", "gemma", "gemma2", "gpt2", "bert alone"});
}

TEST_CASE("decoding with a cache gives what the whole forward gives, to the bit, in every decoder", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    const AttentionConfig& a = model.config.attention;
    if (!a.causal) continue;
    const auto ids = case_ids(12, model.config);
    Pass<float> source;
    if (!model.encoder_layers.empty()) model.encode(source, Sequences::of_lengths(std::vector<std::int64_t>{7}), case_ids(7));
    const Tensor<float> whole = hidden_states(model, ids, pass_over<float>({12}, source));
    KvCache<float> cache(2, a.num_key_value_heads * a.head_dim, 2);
    if (source.source) {
      const auto known = std::make_shared<KvCache<float>>(2, a.num_key_value_heads * a.head_dim);
      model.remember_source(source, std::span(known.get(), 1));
      cache.source = known;
    }
    std::int64_t row = 0;
    for (const std::int64_t n : {5, 1, 1, 4, 1}) {
      Pass<float> pass = source;
      Sequence s;
      s.end = n, s.first_position = row;
      pass.sequences = std::make_shared<Sequences>(std::vector<Sequence, PoolAllocator<Sequence>>{s});
      pass.caches = {&cache};
      CHECK(same_bits(hidden_states(model, std::span(ids).subspan(std::size_t(row), std::size_t(n)), pass), whole.row_range(row, row + n)));
      row += n;
    }
  }
}

TEST_CASE("each sequence of a batch may have its own adapter, in front of a head that reads one row of it", "[checkpoint]") {
  const Folder folder;
  for (const ArchitectureCase& c : all_cases())
    if (std::string(c.name) == "roberta that classifies sequences") write_case(c, folder);
  auto base = load_model<float>(folder.path());
  PeftModel tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = "all-linear", .init_lora_weights = false}, 1);
  tuned.add_adapter("b", LoraConfig{.r = 2, .target_modules = "all-linear", .init_lora_weights = false}, 2);
  const auto alone = [&](const char* name) {
    tuned.set_adapter(name);
    const Pass<float> pass = tuned.pass(pass_over<float>({5, 4}).sequences);
    const PassScope<float> scope(pass);
    return case_output(tuned.model());
  };
  const Tensor<float> a = alone("a"), b = alone("b");
  Pass<float> pass;
  std::vector<Sequence, PoolAllocator<Sequence>> sequences(2);
  sequences[0].end = sequences[1].begin = 5, sequences[1].end = 9, sequences[1].id = 1, sequences[1].active = 1;
  pass.sequences = std::make_shared<Sequences>(std::move(sequences));
  pass.lists = std::make_shared<const std::vector<Active>>(std::vector<Active>{{tuned.entry("a").id}, {tuned.entry("b").id}});
  const PassScope<float> scope(pass);
  const Tensor<float> both = case_output(tuned.model());
  CHECK_THAT(array(both.row_range(0, 1)), is_near<float>(array(a.row_range(0, 1))));
  CHECK_THAT(array(both.row_range(1, 2)), is_near<float>(array(b.row_range(1, 2))));
}

TEST_CASE("a prefix goes through ChatGLM's own files, and its tokens stay where they are", "[checkpoint]") {
  for (const char* name : {"chatglm", "chatglm-6b"})
    for (const bool projection : {false, true}) {
      CAPTURE(name, projection);
      const Folder folder;
      for (const ArchitectureCase& c : all_cases())
        if (std::string(c.name) == name) write_case(c, folder);
      auto base = load_model<float>(folder.path());
      PeftModel tuned{base};
      tuned.add_adapter("a", PrefixTuningConfig{.num_virtual_tokens = 3, .prefix_projection = projection}, 5);
      const auto output = [](const PeftModel<Transformer<float>>& model) {
        Pass<float> pass = model.pass();
        const Transformer<float>& transformer = model.model();
        const FrontedRows rows = with_fronts(pass.fronts, *Sequences::of_lengths(std::vector<std::int64_t>{5, 4}), case_ids(9, transformer.config));
        CHECK((*rows.sequences)[1].first_position == 0);
        pass.sequences = rows.sequences;
        const PassScope<float> scope(pass);
        return transformer.logits(transformer.hidden_states(rows.ids)).value();
      };
      const Tensor<float> expected = output(tuned);
      save_prefix_encoder(tuned, "a", folder / "prefix");
      const SafetensorsFile written = SafetensorsFile::open(folder / "prefix/prefix_encoder.safetensors");
      const std::int64_t d = base.config.attention.num_key_value_heads * D, all = 2 * 2 * d, embedded = !projection || std::string(name) == "chatglm" ? all : d;
      CHECK(written.find("transformer.prefix_encoder.embedding.weight")->shape == Shape{3, embedded});
      CHECK(written.tensors().size() == (projection ? 5u : 1u));
      if (projection) CHECK(written.find("transformer.prefix_encoder.trans.0.weight")->shape == Shape{H, embedded});
      if (projection) CHECK(written.find("transformer.prefix_encoder.trans.2.weight")->shape == Shape{all, H});
      auto again = load_model<float>(folder.path());
      PeftModel loaded{again};
      load_adapter(loaded, "a", folder / "prefix", true);
      CHECK(same_bits(output(loaded), expected));
      CHECK(loaded.count_parameters().trainable == tuned.count_parameters().trainable);
      save_adapter(loaded, "a", folder / "peft");  // PEFT's form: what the encoder gives, without it
      PeftModel from_peft{again};
      load_adapter(from_peft, "a", folder / "peft");
      CHECK(same_bits(output(from_peft), expected));
      save_prefix_encoder(from_peft, "a", folder / "plain");
      CHECK(Json::read(folder / "plain/config.json").at("prefix_projection").dump() == "false");

      // The whole model in one directory.
      const SafetensorsFile weights = SafetensorsFile::open(folder / "model.safetensors");
      std::vector<TensorToWrite> both;
      for (const SafetensorsFile* file : {&weights, &written})
        for (const auto& t : file->tensors()) both.push_back({t.name, *t.dtype, t.shape, t.data});
      std::filesystem::create_directories(folder / "whole");
      write_safetensors(folder / "whole/model.safetensors", both);
      std::filesystem::copy_file(folder / "prefix/config.json", folder / "whole/config.json");
      CHECK_THROWS_WITH(load_model<float>(folder / "whole"), Contains("pre_seq_len 3: a prefix is an adapter here"));
      auto whole = load_model<float>(folder / "whole", {.without_prefix = true});
      PeftModel from_whole{whole};
      load_adapter(from_whole, "a", folder / "whole");
      CHECK(same_bits(output(from_whole), expected));

      write_safetensors(folder / "prefix/prefix_encoder.safetensors", {both[0]});
      CHECK_THROWS_WITH(load_adapter(from_whole, "b", folder / "prefix"), Contains("its files have no transformer.prefix_encoder.*"));
      tuned.add_adapter("lora", LoraConfig{.r = 2});
      CHECK_THROWS_WITH(save_prefix_encoder(tuned, "lora", folder / "no"), Contains("\"lora\" is of the method LORA"));
      tuned.add_adapter("wide", PrefixTuningConfig{.num_virtual_tokens = 3, .encoder_hidden_size = 5, .prefix_projection = true});
      CHECK_THROWS_WITH(save_prefix_encoder(tuned, "wide", folder / "no"), Contains("encoder_hidden_size 5"));
      CHECK_FALSE(std::filesystem::exists(folder / "no"));
    }
}

TEST_CASE("T5's head is the embedding unless the file has another, whatever its configuration says", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    if (std::string(c.name) != "t5" && std::string(c.name) != "mt5 with a head of its own") continue;
    const Folder folder;
    write_case(c, folder);
    const bool tied = std::string(c.name) == "t5";
    const auto model = load_model<float>(folder.path());
    CHECK(model.config.head.scale == (tied ? Approx(1 / std::sqrt(8.0)) : Approx(1.0)));
    Json config = Json::read(folder / "config.json");
    config.set("tie_word_embeddings", Json(!tied)), config.set("scale_decoder_outputs", Json(tied));
    write_file(folder / "config.json", config.dump());
    const auto again = load_model<float>(folder.path());
    CHECK(again.config.head.tied == tied);
    CHECK((again.lm_head.weight.identity() == again.embed_tokens.weight.identity()) == tied);
    CHECK(same_bits(case_output_alone(again), case_output_alone(model)));
  }
}

TEST_CASE("LoRA on q and v of a model as large as mT0-large has PEFT's number of parameters", "[checkpoint]") {
  ModelFile file;
  file.architecture = &architecture_of_model_type("mt5");
  file.config = file.architecture->from_json(Json::parse(
      R"({"model_type": "mt5", "vocab_size": 250112, "d_model": 1024, "num_layers": 24, "num_heads": 16, "d_kv": 64, "d_ff": 2816})", "config.json"));
  // Nobody reads the weights, so there are none behind the views.
  file.find = [](const std::string& name) -> std::optional<StoredTensor> {
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    const Shape shape = has("bias")                       ? Shape{32, 16}
                        : has("norm")                     ? Shape{1024}
                        : has("shared") || has("lm_head") ? Shape{250112, 1024}
                        : has(".wi_")                     ? Shape{2816, 1024}
                        : has(".wo.")                     ? Shape{1024, 2816}
                                                          : Shape{1024, 1024};
    static const float nothing = 0;
    return StoredTensor{ops::WeightView(&nothing, has("lm_head") ? DType::bf16 : DType::f32, shape.rows(), shape.columns()), shape, nullptr};
  };
  auto base = build_model<float>(file);
  PeftModel tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 8});
  CHECK(tuned.trainable_parameters() == "trainable params: 2,359,296 || all params: 1,231,940,608 || trainable%: 0.1915");
}

TEST_CASE("a Conv1D is seen as (out, in), and one site", "[checkpoint]") {
  const Folder folder;
  for (const ArchitectureCase& c : all_cases())
    if (std::string(c.name) == "gpt2") write_case(c, folder);
  auto model = load_model<float>(folder.path());
  const Linear<float>& c_attn = *model.layers[1].self_attn.qkv_proj;
  CHECK(c_attn.path == "transformer.h.1.attn.c_attn");
  CHECK(c_attn.weight.shape() == Shape{3 * H, H});
  const Tensor<double> stored = SafetensorsFile::open(folder / "model.safetensors").read<double>("transformer.h.1.attn.c_attn.weight");
  CHECK(c_attn.weight.dense()(17, 3) == float(stored(3, 17)));
  PeftModel tuned{model};
  tuned.add_adapter("a", LoraConfig{.r = 2});  // PEFT's default for GPT-2
  std::set<std::string> paths;
  tuned.for_each_adapter_parameter("a", [&](const std::string& path, const auto& p) { paths.insert(path + " " + to_string(p.shape())); });
  CHECK(paths == std::set<std::string>{"transformer.h.0.attn.c_attn.lora_A.weight (2, 8)", "transformer.h.0.attn.c_attn.lora_B.weight (24, 2)",
                                       "transformer.h.1.attn.c_attn.lora_A.weight (2, 8)", "transformer.h.1.attn.c_attn.lora_B.weight (24, 2)"});
}

TEST_CASE("a model takes another task, with a head that is drawn where its file has none", "[checkpoint]") {
  const auto folder_of = [](const char* name) {
    auto folder = std::make_unique<Folder>();
    for (const ArchitectureCase& c : all_cases())
      if (std::string(c.name) == name) write_case(c, *folder);
    return folder;
  };
  const auto masked = folder_of("bert with masked words");
  const ModelTask task{.task = TaskType::seq_cls, .num_labels = 4, .seed = 3};
  const auto model = load_model<float>(masked->path(), task);
  const Tensor<float> y = case_output_alone(model);
  CHECK(y.shape() == Shape{2, 4});
  CHECK(same_bits(case_output_alone(load_model<float>(masked->path(), task)), y));
  CHECK_FALSE(same_bits(case_output_alone(load_model<float>(masked->path(), {.task = TaskType::seq_cls, .num_labels = 4, .seed = 4})), y));
  CHECK(same_bits(model.layers[1].mlp.up_proj.weight.dense(), load_model<float>(masked->path()).layers[1].mlp.up_proj.weight.dense()));
  save_model(model, *masked / "out");  // from now on it is a classifier
  CHECK(Json::read(*masked / "out/config.json").at("architectures").dump() == R"(["BertForSequenceClassification"])");
  CHECK_THAT(array(case_output_alone(load_model<float>(*masked / "out"))), is_near<float>(array(y)));
  CHECK_FALSE(Json::read(*masked / "out/config.json").get("problem_type"));

  // A head that is there stays.
  const auto classifier = folder_of("bert that classifies sequences");
  CHECK(same_bits(case_output_alone(load_model<float>(classifier->path(), {.task = TaskType::seq_cls, .num_labels = 3})),
                  case_output_alone(load_model<float>(classifier->path()))));
  CHECK_THROWS_WITH(load_model<float>(classifier->path(), {.task = TaskType::seq_cls, .num_labels = 5}),
                    Contains("classifier.weight is (3, 8), the configuration wants (5, 8)"));

  const auto decoder = folder_of("gpt2");
  const ModelTask regression{.task = TaskType::seq_cls, .num_labels = 1, .problem = ProblemType::regression};
  CHECK(load_model<float>(decoder->path(), regression).config.head.problem == ProblemType::regression);
  CHECK(case_output_alone(load_model<float>(decoder->path(), regression)).shape() == Shape{2, 1});
  CHECK_THROWS_WITH(load_model<float>(decoder->path(), {.task = TaskType::masked_lm}), Contains("\"gpt2\" for the task masked_lm"));
  CHECK_THROWS_WITH(load_model<float>(masked->path(), {.task = TaskType::causal_lm}), Contains("is not supported for an encoder"));
  write_file(*decoder / "m.gguf", "");
  CHECK_THROWS_WITH(open_model(*decoder / "m.gguf", regression), Contains("the task seq_cls"));
}

TEST_CASE("files of old: no prefix, gamma and beta", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    const bool gpt2 = std::string(c.name) == "gpt2";
    if (!gpt2 && std::string(c.name) != "bert with masked words") continue;
    const Folder folder;
    write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    const SafetensorsFile file = SafetensorsFile::open(folder / "model.safetensors");
    std::vector<TensorToWrite> renamed;
    for (const auto& t : file.tensors()) {
      std::string name = t.name;
      if (gpt2) name = name.substr(std::string("transformer.").size());
      if (const std::size_t at = name.find("LayerNorm.weight"); at != std::string::npos) name.replace(at, 16, "LayerNorm.gamma");
      if (const std::size_t at = name.find("LayerNorm.bias"); at != std::string::npos) name.replace(at, 14, "LayerNorm.beta");
      renamed.push_back({name, *t.dtype, t.shape, t.data});
    }
    const Folder old;
    write_file(old / "config.json", c.config);
    write_safetensors(old / "model.safetensors", renamed);
    CHECK(same_bits(case_output_alone(load_model<float>(old.path())), case_output_alone(model)));
  }
}

TEST_CASE("options that are not done are refused before any weight is looked for", "[checkpoint]") {
  const Folder folder;  // no weights here
  const auto reason = [&](const char* type, const std::string& keys) {
    write_file(folder / "config.json", R"({"model_type": ")" + std::string(type) + "\", " + keys + "}");
    return format_error(folder / "config.json", [&] { load_model<float>(folder.path()); }).reason();
  };
  CHECK_THAT(reason("mistral", llama_keys + R"(, "num_local_experts": 8)"), Contains("num_local_experts 8 is not supported"));
  CHECK_THAT(reason("qwen2", llama_keys + R"(, "layer_types": ["full_attention", "linear_attention"])"),
             Contains("layer_types \"linear_attention\" is not supported"));
  CHECK_THAT(reason("qwen2", llama_keys + R"(, "layer_types": ["full_attention"])"), Contains("layer_types has 1 entries for 2 layers"));
  CHECK_THAT(reason("qwen3", llama_keys + R"(, "partial_rotary_factor": 0.5)"), Contains("partial_rotary_factor 0.5 is not supported"));
  CHECK_THAT(reason("glm", llama_keys + R"(, "partial_rotary_factor": 0.2)"), Contains("partial_rotary_factor 0.2"));
  CHECK_THAT(reason("phi3", llama_keys + R"(, "rope_scaling": {"type": "longrope"})"), Contains("rope_type \"longrope\" is not supported"));
  CHECK_THAT(reason("chatglm", R"("inner_hidden_size": 6, "position_encoding_2d": false)"), Contains("position_encoding_2d false is not supported"));
  CHECK_THAT(reason("chatglm", R"("inner_hidden_size": 6, "vocab_size": 11, "hidden_size": 8, "num_layers": 2, "num_attention_heads": 2)"),
             Contains("gmask_token_id is 150001, where the file says nothing, of a vocabulary of 11"));
  CHECK_THAT(reason("chatglm", chatglm_6b_keys + R"(, "quantization_bit": 4)"), Contains("quantization_bit 4 is not supported"));
  CHECK_THAT(reason("chatglm", R"("padded_vocab_size": 11, "hidden_size": 8)"), Contains("multi_query_attention false"));
  CHECK_THAT(reason("chatglm", chatglm_keys + R"(, "rope_ratio": 50)"), Contains("rope_ratio 50 is not supported"));
  CHECK_THAT(reason("chatglm", chatglm_keys + R"(, "pre_seq_len": 4)"), Contains("pre_seq_len 4: a prefix is an adapter here"));
  CHECK_THAT(reason("chatglm", chatglm_keys + R"(, "architectures": ["ChatGLMForSequenceClassification"])"), Contains("\"ChatGLMForSequenceClassification\""));
  CHECK_THAT(reason("t5", t5_keys + R"(, "architectures": ["T5EncoderModel"])"), Contains("is not supported for an encoder-decoder"));
  CHECK_THAT(reason("t5", t5_keys + R"(, "feed_forward_proj": "gated-mish")"), Contains("feed_forward_proj \"mish\" is not supported"));
  CHECK_THAT(reason("gemma", llama_keys + R"(, "use_bidirectional_attention": true)"), Contains("use_bidirectional_attention true is not supported"));
  CHECK_THAT(reason("gemma2", llama_keys + R"(, "layer_types": ["sliding_attention"])"), Contains("layer_types has 1 entries for 2 layers"));
  CHECK_THAT(reason("gemma2", llama_keys + R"(, "attn_logit_softcapping": -50.0)"), Contains("attn_logit_softcapping is -50"));
  CHECK_THAT(reason("gemma2", llama_keys + R"(, "query_pre_attn_scalar": 0)"), Contains("query_pre_attn_scalar is 0"));
  CHECK_THAT(reason("gpt2", gpt2_keys + R"(, "scale_attn_by_inverse_layer_idx": true)"), Contains("scale_attn_by_inverse_layer_idx true"));
  CHECK_THAT(reason("gpt2", gpt2_keys + R"(, "architectures": ["GPT2DoubleHeadsModel2"])"), Contains("\"GPT2DoubleHeadsModel2\" is not supported"));
  CHECK_THAT(reason("bert", bert_keys + R"(, "is_decoder": true)"), Contains("is_decoder true is not supported"));
  CHECK_THAT(reason("bert", bert_keys + R"(, "position_embedding_type": "relative_key")"), Contains("position_embedding_type \"relative_key\""));
  CHECK_THAT(reason("bert", bert_keys + R"(, "architectures": ["BertForSequenceClassification"], "problem_type": "ranking")"),
             Contains("problem_type \"ranking\""));
}

TEST_CASE("Gemma's norms in GGUF are one larger, and Qwen's rows are not permuted", "[checkpoint]") {
  for (const std::string type : {"gemma", "qwen2", "qwen3"}) {
    CAPTURE(type);
    const Folder folder, other;
    for (const ArchitectureCase& c : all_cases())
      if (c.name == type) write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    GgufWriter w;
    const auto u = [](std::int64_t n) { return std::uint32_t(n); };
    w.add("general.architecture", type).add(type + ".context_length", 64u).add(type + ".embedding_length", u(H)).add(type + ".block_count", 2u);
    w.add(type + ".feed_forward_length", u(I)).add(type + ".attention.head_count", 2u).add(type + ".attention.head_count_kv", 1u);
    w.add(type + ".attention.key_length", u(D)).add(type + ".attention.value_length", u(D));
    w.add(type + ".attention.layer_norm_rms_epsilon", 1e-6f);
    const Architecture& architecture = architecture_of_model_type(type);
    for_each_parameter(model, [&](const std::string& path, const Parameter<float>& p) {
      if (model.config.head.tied && path == "lm_head.weight") return;
      const std::size_t dot = path.rfind('.');
      const FoundName name = find_name(architecture, path.substr(0, dot));
      Tensor<float> values = p.dense();
      if (type == "gemma" && path.find("norm") != std::string::npos)
        for (float& value : values.span()) value += 1;
      const std::string in_gguf = tensor_name(name.name->gguf, name.layer) + path.substr(dot);
      if (values.rank() == 1)
        w.tensor(in_gguf, {values.size()}, 0, as_stored(values, DType::f32));
      else
        w.tensor(in_gguf, {values.cols(), values.rows()}, 0, as_stored(values, DType::f32));
    });
    write_file(other / "m.gguf", w.file());
    const auto loaded = load_model<float>(other / "m.gguf");
    CHECK_THAT(array(case_output_alone(loaded)), is_near<float>(array(case_output_alone(model)), 10));
    save_model(loaded, other / "out");
    CHECK_THAT(array(case_output_alone(load_model<float>(other / "out"))), is_near<float>(array(case_output_alone(model)), 10));
  }
}
