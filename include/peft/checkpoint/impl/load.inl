// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "peft/checkpoint/load.hpp"
#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {

// A configuration is part of a file: what it says wrongly is reported with the file's name.
template <class F>
auto in_file(const std::string& path, F f) {
  try {
    return f();
  } catch (const FormatError&) {
    throw;
  } catch (const Error& error) {
    throw FormatError(path, -1, error.what());
  }
}

PEFT_INLINE ModelFile open_huggingface(const std::filesystem::path& directory) {
  const std::string config_path = (directory / "config.json").string();
  const Json json = Json::read(config_path);
  ModelFile file;
  file.path = directory.string();
  in_file(config_path, [&] {
    const Json* type = json.get("model_type");
    if (!type) throw ConfigError("config", "model_type is missing");
    file.architecture = &architecture_of_model_type(type->string());
    file.config = file.architecture->from_json(json);
    validate(file.config);
    file.config.name = std::filesystem::weakly_canonical(directory).filename().string();
    return 0;
  });
  // Ends of text that only the generation settings name.
  if (const auto settings = directory / "generation_config.json"; std::filesystem::exists(settings)) {
    const Json generation = Json::read(settings.string());
    in_file(settings.string(), [&] {
      for (std::int32_t id : token_ids(generation, "eos_token_id"))
        if (std::ranges::find(file.config.eos_token_ids, id) == file.config.eos_token_ids.end()) file.config.eos_token_ids.push_back(id);
      return 0;
    });
  }
  auto weights = std::make_shared<const SafetensorsDirectory>(SafetensorsDirectory::open(directory.string()));
  std::array<std::int64_t, dtype_infos.size()> stored{};
  for (const auto& tensor : weights->tensors())
    if (tensor.dtype) stored[std::size_t(*tensor.dtype)] += tensor.bytes, file.bytes += tensor.bytes;
  file.storage = std::string(name(DType(std::ranges::max_element(stored) - stored.begin())));
  file.find = [weights](const std::string& wanted) -> std::optional<StoredTensor> {
    const auto* tensor = weights->find(wanted);
    // A base model that was saved without its head has no "model." in front.
    if (!tensor && wanted.starts_with("model.")) tensor = weights->find(wanted.substr(6));
    if (!tensor) return std::nullopt;
    if (!tensor->dtype || !info(*tensor->dtype).floating)
      throw FormatError(tensor->path, -1, "tensor " + tensor->name + " has the type " + tensor->dtype_name + "; a weight is F32, F64, F16 or BF16");
    return StoredTensor{ops::WeightView(tensor->data, *tensor->dtype, tensor->shape.rows(), tensor->shape.columns()), tensor->shape, tensor->keep};
  };
  return file;
}

PEFT_INLINE ModelFile open_gguf_model(const std::string& path) {
  auto gguf = std::make_shared<const GgufFile>(GgufFile::open(path));
  ModelFile file;
  file.path = path;
  in_file(path, [&] {
    const GgufValue* architecture = gguf->find("general.architecture");
    if (!architecture) throw ConfigError("config", "general.architecture is missing");
    file.architecture = &architecture_of_gguf(architecture->string());
    file.config = file.architecture->from_gguf(*gguf);
    validate(file.config);
    if (file.config.name.empty()) file.config.name = std::filesystem::path(path).stem().string();
    return 0;
  });
  std::array<std::int64_t, dtype_infos.size()> stored{};
  for (const auto& tensor : gguf->tensors()) stored[std::size_t(tensor.dtype)] += tensor.bytes, file.bytes += tensor.bytes;
  file.storage = std::string(name(DType(std::ranges::max_element(stored) - stored.begin())));
  const auto names = file.architecture->names;
  const std::int64_t layers = file.config.num_hidden_layers, head_dim = file.config.attention.head_dim;
  file.find = [gguf, names, layers, head_dim](const std::string& wanted) -> std::optional<StoredTensor> {
    const std::size_t dot = wanted.rfind('.');
    const std::string module = wanted.substr(0, dot), leaf = wanted.substr(dot);
    for (const TensorName& n : names) {
      const bool layered = std::string_view(n.huggingface).find("{}") != std::string_view::npos;
      for (std::int64_t layer = 0; layer < (layered ? layers : 1); layer++) {
        if (tensor_name(n.huggingface, layer) != module) continue;
        const auto* tensor = gguf->find_tensor(tensor_name(n.gguf, layer) + leaf);
        if (!tensor) return std::nullopt;
        StoredTensor found{ops::WeightView(tensor->data, tensor->dtype, tensor->shape.rows(), tensor->shape.columns()), tensor->shape, gguf};
        if (n.rotary_in_gguf && tensor->shape.rank() == 2) found.view.rope_head_dim = head_dim;
        return found;
      }
    }
    return std::nullopt;
  };
  return file;
}

}  // namespace detail

PEFT_INLINE ModelFile open_model(const std::string& path) {
  namespace fs = std::filesystem;
  if (fs::is_directory(path)) {
    if (fs::exists(fs::path(path) / "config.json")) return detail::open_huggingface(path);
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.path().extension() == ".gguf") found.push_back(entry.path().string());
    if (found.size() == 1) return detail::open_gguf_model(found[0]);
    throw FormatError(path, -1,
                      "this directory has no config.json" + std::string(found.empty() ? ", and no GGUF file" : ", and several GGUF files: name one of them"));
  }
  if (!fs::exists(path)) throw FormatError(path, -1, "no such file or directory; a Hugging Face directory or a .gguf file is wanted");
  return detail::open_gguf_model(path);
}

template <Scalar T>
Transformer<T> build_model(const ModelFile& file) {
  const TransformerConfig& c = file.config;
  std::vector<std::string> missing, misshapen;
  const auto take = [&](const std::string& name, const Shape& shape) -> Parameter<T> {
    std::optional<StoredTensor> tensor = file.find(name);
    if (!tensor) {
      missing.push_back(name);
      return {};
    }
    if (!(tensor->shape == shape)) {
      misshapen.push_back(name + " is " + to_string(tensor->shape) + ", the configuration wants " + to_string(shape));
      return {};
    }
    return Parameter<T>(tensor->view, shape, tensor->keep);
  };
  const auto names = file.architecture->names;
  const auto path_of = [&](std::string_view ours, std::int64_t layer) {
    for (const TensorName& n : names)
      if (ours == n.ours) return tensor_name(n.huggingface, layer);
    throw ConfigError("build_model", "the architecture " + std::string(file.architecture->model_type) + " has no module " + std::string(ours));
  };
  const auto linear = [&](std::string_view ours, std::int64_t layer, std::int64_t out, std::int64_t in, bool bias) {
    const std::string path = path_of(ours, layer);
    return Linear<T>(take(path + ".weight", {out, in}), bias ? take(path + ".bias", {out}) : Parameter<T>(), path);
  };
  const auto norm = [&](std::string_view ours, std::int64_t layer) {
    const std::string path = path_of(ours, layer);
    Norm<T> n;
    n.weight = take(path + ".weight", {c.hidden_size});
    if (c.norm.kind == NormKind::layer) n.bias = take(path + ".bias", {c.hidden_size});
    n.kind = c.norm.kind, n.eps = T(c.norm.eps), n.offset = T(c.norm.offset), n.path = path;
    return n;
  };

  Transformer<T> model;
  model.config = c;
  model.embed_tokens.path = path_of("embed_tokens", 0);
  model.embed_tokens.weight = take(model.embed_tokens.path + ".weight", {c.vocab_size, c.hidden_size});
  model.embed_tokens.padding_idx = std::int32_t(c.pad_token_id);
  const AttentionConfig& a = c.attention;
  const std::int64_t q = a.num_attention_heads * a.head_dim, kv = a.num_key_value_heads * a.head_dim, inner = c.mlp.intermediate_size;
  const std::shared_ptr<Rotary<T>> rotary =
      a.rope ? std::make_shared<Rotary<T>>(rope_frequencies(*a.rope, a.head_dim), a.head_dim, a.rope->interleaved) : nullptr;
  for (std::int64_t l = 0; l < c.num_hidden_layers && missing.size() < 1000; l++) {
    Block<T> block;
    block.input_layernorm = norm("layers.{}.input_layernorm", l);
    Attention<T>& attention = block.self_attn;
    attention.q_proj = linear("layers.{}.self_attn.q_proj", l, q, c.hidden_size, a.qkv_bias);
    attention.k_proj = linear("layers.{}.self_attn.k_proj", l, kv, c.hidden_size, a.qkv_bias);
    attention.v_proj = linear("layers.{}.self_attn.v_proj", l, kv, c.hidden_size, a.qkv_bias);
    attention.o_proj = linear("layers.{}.self_attn.o_proj", l, c.hidden_size, q, a.o_bias);
    attention.rotary = rotary, attention.layer = l;
    attention.core.shape = {a.num_attention_heads, a.num_key_value_heads, a.head_dim, 1 / std::sqrt(double(a.head_dim)), true, a.sliding_window};
    const std::string q_path = attention.q_proj.path;
    attention.path = q_path.substr(0, q_path.rfind('.')), attention.core.path = attention.path + ".core";
    block.post_attention_layernorm = norm("layers.{}.post_attention_layernorm", l);
    Mlp<T>& mlp = block.mlp;
    mlp.kind = c.mlp.kind, mlp.act = c.mlp.activation;
    if (c.mlp.kind == MlpKind::gated) mlp.gate_proj = linear("layers.{}.mlp.gate_proj", l, inner, c.hidden_size, c.mlp.bias);
    mlp.up_proj = linear("layers.{}.mlp.up_proj", l, inner, c.hidden_size, c.mlp.bias);
    mlp.down_proj = linear("layers.{}.mlp.down_proj", l, c.hidden_size, inner, c.mlp.bias);
    mlp.path = mlp.up_proj.path.substr(0, mlp.up_proj.path.rfind('.'));
    const std::string layer_path = attention.path.substr(0, attention.path.rfind('.'));
    block.attention_join.path = layer_path + ".attention_join", block.mlp_join.path = layer_path + ".mlp_join";
    model.layers.push_back(std::move(block));
  }
  model.norm = norm("norm", 0);
  model.lm_head.path = path_of("lm_head", 0);
  model.lm_head.weight = c.head.tied ? model.embed_tokens.weight : take(model.lm_head.path + ".weight", {c.vocab_size, c.hidden_size});

  if (!missing.empty() || !misshapen.empty()) {
    std::string text = file.path + " does not fit its configuration: missing " + std::to_string(missing.size()) + " tensors";
    for (std::size_t i = 0; i < missing.size() && i < 8; i++) text += (i ? ", " : " (") + missing[i];
    if (!missing.empty()) text += missing.size() > 8 ? ", …)" : ")";
    text += ", wrong shape " + std::to_string(misshapen.size());
    for (std::size_t i = 0; i < misshapen.size() && i < 8; i++) text += (i ? "; " : " (") + misshapen[i];
    if (!misshapen.empty()) text += ")";
    throw CheckpointError("load_model", text + ". Nothing was loaded.");
  }
  return model;
}

}  // namespace peft
