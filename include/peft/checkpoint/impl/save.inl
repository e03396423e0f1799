// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <vector>

#include "peft/checkpoint/save.hpp"
#include "peft/core/bfloat16.hpp"
#include "peft/core/float16.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"

namespace peft {

namespace detail {

PEFT_INLINE const char* name_of(Activation f) {
  switch (f) {
    case Activation::silu:
      return "silu";
    case Activation::gelu:
      return "gelu";
    case Activation::gelu_tanh:
      return "gelu_pytorch_tanh";
    case Activation::relu:
      return "relu";
    case Activation::tanh:
      return "tanh";
  }
  return "";
}

PEFT_INLINE Json ids_json(const std::vector<std::int32_t>& ids) {
  if (ids.empty()) return Json();
  if (ids.size() == 1) return Json(std::int64_t(ids[0]));
  Json list = Json::make_array();
  for (std::int32_t id : ids) list.push_back(Json(std::int64_t(id)));
  return list;
}

PEFT_INLINE Json llama_config_json(const TransformerConfig& c, const char* dtype) {
  Json j = Json::make_object();
  Json architectures = Json::make_array();
  architectures.push_back(Json("LlamaForCausalLM"));
  j.set("architectures", std::move(architectures));
  j.set("model_type", Json("llama"));
  j.set("vocab_size", Json(c.vocab_size)), j.set("hidden_size", Json(c.hidden_size)), j.set("num_hidden_layers", Json(c.num_hidden_layers));
  j.set("intermediate_size", Json(c.mlp.intermediate_size)), j.set("max_position_embeddings", Json(c.max_position_embeddings));
  j.set("num_attention_heads", Json(c.attention.num_attention_heads)), j.set("num_key_value_heads", Json(c.attention.num_key_value_heads));
  j.set("head_dim", Json(c.attention.head_dim)), j.set("hidden_act", Json(name_of(c.mlp.activation)));
  j.set("attention_bias", Json(c.attention.qkv_bias)), j.set("mlp_bias", Json(c.mlp.bias)), j.set("rms_norm_eps", Json(c.norm.eps));
  j.set("tie_word_embeddings", Json(c.head.tied)), j.set("use_cache", Json(true));
  j.set("bos_token_id", ids_json(c.bos_token_ids)), j.set("eos_token_id", ids_json(c.eos_token_ids));
  j.set("pad_token_id", c.pad_token_id >= 0 ? Json(c.pad_token_id) : Json());
  j.set("dtype", Json(dtype)), j.set("torch_dtype", Json(dtype));
  if (c.attention.rope) {
    const RopeConfig& rope = *c.attention.rope;
    if (!rope.divisors.empty()) throw ConfigError("save_model", "rotary factors that a GGUF file gives as a table have no form in config.json");
    Json scaling = Json();
    if (rope.scaling != RopeScaling::none) {
      scaling = Json::make_object();
      scaling.set("rope_type", Json(rope.scaling == RopeScaling::linear ? "linear" : "llama3"));
      scaling.set("factor", Json(rope.factor));
      if (rope.scaling == RopeScaling::llama3) {
        scaling.set("low_freq_factor", Json(rope.low_freq_factor)), scaling.set("high_freq_factor", Json(rope.high_freq_factor));
        scaling.set("original_max_position_embeddings", Json(rope.original_max_position_embeddings));
      }
    }
    j.set("rope_theta", Json(rope.theta)), j.set("rope_scaling", scaling);
    Json parameters = scaling.is_null() ? Json::make_object() : scaling;
    if (scaling.is_null()) parameters.set("rope_type", Json("default"));
    parameters.set("rope_theta", Json(rope.theta));
    j.set("rope_parameters", std::move(parameters));
  }
  return j;
}

}  // namespace detail

template <Scalar T>
void save_model(const Transformer<T>& model, const std::string& directory, DType dtype) {
  namespace fs = std::filesystem;
  const TransformerConfig& c = model.config;
  const char* torch_name = dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : dtype == DType::bf16 ? "bfloat16" : nullptr;
  if (!torch_name) throw ConfigError("save_model", "dtype " + std::string(name(dtype)) + "; a Hugging Face directory is written as F32, F16 or BF16");
  if (c.model_type != "llama") throw ConfigError("save_model", "model_type \"" + c.model_type + "\" cannot be written as a Hugging Face directory");
  const Json config = detail::llama_config_json(c, torch_name);

  std::vector<TensorToWrite> tensors;
  std::vector<std::vector<std::byte>> held;
  std::vector<const void*> seen;
  for_each_parameter(model, [&](const std::string& path, const Parameter<T>& parameter) {
    if (std::find(seen.begin(), seen.end(), parameter.identity()) != seen.end()) return;  // a tied head
    seen.push_back(parameter.identity());
    const ops::WeightView stored = parameter.view();
    if (parameter.is_stored() && !stored.transposed && stored.rope_head_dim == 0 && stored.stride == stored.cols &&
        (stored.dtype == DType::f16 || stored.dtype == DType::bf16)) {
      tensors.push_back({path, stored.dtype, parameter.shape(), stored.data});
      return;
    }
    const Tensor<T> values = parameter.dense();
    std::vector<std::byte> bytes(std::size_t(bytes_of(dtype, values.size())));
    for (std::int64_t i = 0; i < values.size(); i++) {
      const float value = float(values[i]);
      if (dtype == DType::f32)
        std::memcpy(bytes.data() + 4 * i, &value, 4);
      else {
        const std::uint16_t half = dtype == DType::f16 ? to_float16(value).bits : to_bfloat16(value).bits;
        std::memcpy(bytes.data() + 2 * i, &half, 2);
      }
    }
    held.push_back(std::move(bytes));
    tensors.push_back({path, dtype, parameter.shape(), held.back().data()});
  });
  std::error_code failure;
  fs::create_directories(directory, failure);
  if (failure) throw FormatError(directory, -1, "cannot be created: " + failure.message());
  write_safetensors((fs::path(directory) / "model.safetensors").string(), tensors, {{"format", "pt"}});
  Json generation = Json::make_object();
  generation.set("bos_token_id", detail::ids_json(c.bos_token_ids)), generation.set("eos_token_id", detail::ids_json(c.eos_token_ids));
  write_text_atomically((fs::path(directory) / "generation_config.json").string(), generation.dump(2, true));
  write_text_atomically((fs::path(directory) / "config.json").string(), config.dump(2, true));
}

}  // namespace peft
