// SPDX-License-Identifier: Apache-2.0
// Tiny Llamas as files: what transformers and llama.cpp's converter would write, written by hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "peft/checkpoint/load.hpp"
#include "peft/core/bfloat16.hpp"
#include "peft/core/float16.hpp"
#include "peft/io/safetensors.hpp"
#include "support/files.hpp"
#include "support/gguf_writer.hpp"
#include "support/tensors.hpp"
#include "support/tiny_transformer.hpp"

namespace peft::testing {

inline std::string as_stored(const Tensor<float>& t, DType dtype) {
  std::string all;
  for (const float value : t.span()) {
    if (dtype == DType::f16)
      all += bytes(to_float16(value).bits);
    else if (dtype == DType::bf16)
      all += bytes(to_bfloat16(value).bits);
    else
      all += bytes(value);
  }
  return all;
}
/// Rounds every weight, in place, to what `dtype` holds.
inline Transformer<float> rounded(Transformer<float> model, DType dtype) {
  for_each_parameter(model, [&](const std::string&, Parameter<float>& p) {
    Tensor<float> values = p.value().clone();
    for (float& value : values.span()) value = dtype == DType::f16 ? to_float(to_float16(value)) : dtype == DType::bf16 ? to_float(to_bfloat16(value)) : value;
    p.assign(values);
  });
  return model;
}

/// Members of a config.json; `more` comes first and may hold any key.
inline std::string config_json(const Transformer<float>& m, const std::string& more = "") {
  const AttentionConfig& a = m.config.attention;
  const auto n = [](std::int64_t value) { return std::to_string(value); };
  return "{" + (more.empty() ? "" : more + ", ") + R"("model_type": "llama", "vocab_size": )" + n(m.config.vocab_size) + R"(, "hidden_size": )" +
         n(m.config.hidden_size) + R"(, "num_hidden_layers": )" + n(m.config.num_hidden_layers) + R"(, "num_attention_heads": )" + n(a.num_attention_heads) +
         R"(, "num_key_value_heads": )" + n(a.num_key_value_heads) + R"(, "intermediate_size": )" + n(m.config.mlp.intermediate_size) +
         R"(, "rms_norm_eps": 1e-05, "tie_word_embeddings": )" + (m.config.head.tied ? "true" : "false") + "}";
}

/// A directory as save_pretrained leaves it; `shards` > 1: cut into as many files and an index.
inline void write_huggingface(const Folder& folder, const Transformer<float>& model, DType dtype = DType::f32, const std::string& more = "",
                              std::size_t shards = 1, const std::string& drop_prefix = "") {
  write_file(folder / "config.json", config_json(model, more));
  std::vector<std::string> data;
  std::vector<TensorToWrite> tensors;
  for_each_parameter(model, [&](const std::string& path, const Parameter<float>& p) {
    if (model.config.head.tied && path == "lm_head.weight") return;
    data.push_back(as_stored(p.value(), dtype));
    tensors.push_back({path.starts_with(drop_prefix) ? path.substr(drop_prefix.size()) : path, dtype, p.shape(), nullptr});
  });
  for (std::size_t i = 0; i < tensors.size(); i++) tensors[i].data = data[i].data();
  if (shards == 1) return write_safetensors(folder / "model.safetensors", tensors);
  std::vector<std::vector<TensorToWrite>> parts(shards);
  std::string map;
  for (std::size_t i = 0; i < tensors.size(); i++) {
    parts[i % shards].push_back(tensors[i]);
    map += (map.empty() ? "\"" : ", \"") + tensors[i].name + "\": \"part-" + std::to_string(i % shards) + ".safetensors\"";
  }
  for (std::size_t s = 0; s < shards; s++) write_safetensors(folder / ("part-" + std::to_string(s) + ".safetensors"), parts[s]);
  write_file(folder / "model.safetensors.index.json", "{\"metadata\": {}, \"weight_map\": {" + map + "}}");
}

/// Rows of each head as GGUF's llama has them: h d + 2i + j holds Hugging Face's h d + j d/2 + i.
inline Tensor<float> interleaved(const Tensor<float>& t, std::int64_t d) {
  const Tensor<float> to(t.shape());
  for (std::int64_t h = 0; h < t.rows() / d; h++)
    for (std::int64_t i = 0; i < d / 2; i++)
      for (std::int64_t j = 0; j < 2; j++) std::copy_n(&t(h * d + j * d / 2 + i, 0), t.cols(), &to(h * d + 2 * i + j, 0));
  return to;
}

/// Q8_0 with one scale, 1/64, for all blocks: exact for multiples of it below 2.
inline std::string as_q8_0(const Tensor<float>& t) {
  std::string all;
  for (std::int64_t i = 0; i < t.size(); i++) {
    if (i % 32 == 0) all += bytes(to_float16(1.0f / 64).bits);
    all += bytes(std::int8_t(t[i] * 64));
  }
  return all;
}
inline Transformer<float> quantised(Transformer<float> model) {
  for_each_parameter(model, [](const std::string&, Parameter<float>& p) {
    Tensor<float> values = p.value().clone();
    for (float& value : values.span()) value = std::round(std::clamp(value, -1.9f, 1.9f) * 64) / 64 + 0.0f;  // no -0: integers have none
    p.assign(values);
  });
  return model;
}

/// A GGUF file of the model: matrices as `type` (0: F32, 8: Q8_0), vectors as F32.
inline GgufWriter gguf(const Transformer<float>& m, std::int32_t type = 0) {
  const AttentionConfig& a = m.config.attention;
  const auto u = [](std::int64_t n) { return std::uint32_t(n); };
  GgufWriter w;
  w.add("general.architecture", "llama").add("general.name", "tiny").add("llama.context_length", 64u).add("llama.embedding_length", u(m.config.hidden_size));
  w.add("llama.block_count", u(m.config.num_hidden_layers)).add("llama.feed_forward_length", u(m.config.mlp.intermediate_size));
  w.add("llama.attention.head_count", u(a.num_attention_heads)).add("llama.attention.head_count_kv", u(a.num_key_value_heads));
  w.add("llama.attention.layer_norm_rms_epsilon", 1e-5f).add("llama.rope.freq_base", 10000.0f);
  const auto put = [&](const std::string& name, const Parameter<float>& p, bool rotary = false) {
    const Tensor<float> values = rotary ? interleaved(p.value(), a.head_dim) : p.value();
    if (p.shape().rank() == 1)
      w.tensor(name + ".weight", {p.size()}, 0, as_stored(values, DType::f32));
    else
      w.tensor(name + ".weight", {p.shape()[1], p.shape()[0]}, type, type == 8 ? as_q8_0(values) : as_stored(values, DType::f32));
  };
  put("token_embd", m.embed_tokens.weight), put("output_norm", m.norm->weight);
  if (!m.config.head.tied) put("output", m.lm_head.weight);
  for (std::size_t l = 0; l < m.layers.size(); l++) {
    const Block<float>& b = m.layers[l];
    const std::string blk = "blk." + std::to_string(l) + ".";
    put(blk + "attn_norm", b.input_layernorm->weight), put(blk + "ffn_norm", b.post_attention_layernorm->weight);
    put(blk + "attn_q", b.self_attn.q_proj.weight, true), put(blk + "attn_k", b.self_attn.k_proj.weight, true);
    put(blk + "attn_v", b.self_attn.v_proj.weight), put(blk + "attn_output", b.self_attn.o_proj.weight);
    put(blk + "ffn_gate", b.mlp.gate_proj->weight), put(blk + "ffn_up", b.mlp.up_proj.weight), put(blk + "ffn_down", b.mlp.down_proj.weight);
  }
  return w;
}

/// Logits (N, vocab) of two short sequences.
template <Scalar T>
Tensor<T> logits(const Transformer<T>& model) {
  const auto ids = random_ids(9, model.config.vocab_size);
  const Pass<T> pass = pass_over<T>({5, 4});
  const PassScope<T> scope(pass);
  return model.logits(model.hidden_states(ids)).value().clone();
}

/// What a CheckpointError says.
template <class F>
std::string checkpoint_error(F f) {
  try {
    f();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  FAIL("no CheckpointError");
  return "";
}

}  // namespace peft::testing
