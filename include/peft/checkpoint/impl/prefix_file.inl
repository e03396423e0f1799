// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <filesystem>
#include <utility>
#include <vector>

#include "peft/checkpoint/prefix_file.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"
#include "peft/models/config.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {
inline constexpr const char* prefix_encoder_root = "transformer.prefix_encoder.";
// In ChatGLM's files and as an adapter's parameters.
inline constexpr std::array<std::pair<const char*, const char*>, 5> prefix_encoder_names = {{
    {"embedding.weight", "prompt_encoder.embedding.weight"},
    {"trans.0.weight", "prompt_encoder.transform.0.weight"},
    {"trans.0.bias", "prompt_encoder.transform.0.bias"},
    {"trans.2.weight", "prompt_encoder.transform.2.weight"},
    {"trans.2.bias", "prompt_encoder.transform.2.bias"},
}};
}  // namespace detail

PEFT_INLINE bool has_prefix_encoder(const std::string& directory) {
  namespace fs = std::filesystem;
  const fs::path config = fs::path(directory) / "config.json";
  if (fs::exists(fs::path(directory) / "adapter_config.json") || !fs::exists(config)) return false;
  const Json json = Json::read(config.string());
  return json.is_object() && detail::ConfigFields(json).find("pre_seq_len");
}

PEFT_INLINE PrefixTuningConfig read_prefix_encoder(const std::string& directory, AdapterTensors& tensors) {
  namespace fs = std::filesystem;
  const std::string config_path = (fs::path(directory) / "config.json").string();
  const Json json = Json::read(config_path);
  PrefixTuningConfig config;
  try {
    const detail::ConfigFields f(json);
    if (const std::string type = f.string("model_type", "chatglm"); type != "chatglm")
      throw NotSupported("config", "pre_seq_len in a configuration of the model_type \"" + type + "\"; it is one of chatglm's");
    config.num_virtual_tokens = f.integer("pre_seq_len"), config.prefix_projection = f.boolean("prefix_projection", false);
    validate(config);
  } catch (const Error& error) {
    throw FormatError(config_path, -1, error.what());
  }
  const auto take = [&](const auto& file) {
    for (const auto& [there, here] : detail::prefix_encoder_names) {
      const SafetensorsEntry* entry = file.find(std::string(detail::prefix_encoder_root) + there);
      if (!entry) continue;
      if (!entry->dtype || !info(*entry->dtype).floating)
        throw FormatError(entry->path, -1, "tensor " + entry->name + " has the type " + entry->dtype_name + "; a weight is F32, F64, F16 or BF16");
      AdapterTensor t{here, Tensor<float>(entry->shape)};
      ops::widen<float>(t.values.view(), ops::WeightView(entry->data, *entry->dtype, entry->shape.rows(), entry->shape.columns()));
      tensors.push_back(std::move(t));
    }
  };
  if (const fs::path own = fs::path(directory) / "prefix_encoder.safetensors"; fs::exists(own))
    take(SafetensorsFile::open(own.string()));
  else
    take(SafetensorsDirectory::open(directory));
  if (tensors.empty())
    throw FormatError(directory, -1, "its config.json says pre_seq_len, and its files have no " + std::string(detail::prefix_encoder_root) + "*");
  if (const AdapterTensor* inner = find_tensor(tensors, "prompt_encoder.transform.0.weight")) config.encoder_hidden_size = inner->values.shape()[0];
  return config;
}

PEFT_INLINE void write_prefix_encoder(const std::string& directory, const TransformerConfig& base, const PrefixTuningConfig& config,
                                      const AdapterTensors& tensors) {
  namespace fs = std::filesystem;
  if (base.model_type != "chatglm")
    throw NotSupported("save_prefix_encoder",
                       "a prefix of a model of type \"" + base.model_type + "\"; chatglm's files have a form for it, save_adapter writes all");
  std::vector<TensorToWrite> all;
  const auto add = [&](const char* there, const AdapterTensor& t) {
    all.push_back({std::string(detail::prefix_encoder_root) + there, DType::f32, t.values.shape(), t.values.data()});
  };
  for (const AdapterTensor& t : tensors) {
    if (t.name == "prompt_embeddings") add("embedding.weight", t);  // out of a file of PEFT's, where the projection is gone
    for (const auto& [there, here] : detail::prefix_encoder_names)
      if (t.name == here) add(there, t);
  }
  const bool projected = all.size() > 1;
  if (projected && config.encoder_hidden_size != base.hidden_size)
    throw NotSupported("save_prefix_encoder", "encoder_hidden_size " + std::to_string(config.encoder_hidden_size) +
                                                  "; chatglm's projection is as wide as the model, " + std::to_string(base.hidden_size));
  Json json = architecture_of(base).to_json(base);
  json.set("pre_seq_len", Json(config.num_virtual_tokens)), json.set("prefix_projection", Json(projected));
  std::error_code failure;
  fs::create_directories(directory, failure);
  if (failure) throw FormatError(directory, -1, "cannot be created: " + failure.message());
  write_safetensors((fs::path(directory) / "prefix_encoder.safetensors").string(), all);
  write_text_atomically((fs::path(directory) / "config.json").string(), json.dump(2, true));
}

}  // namespace peft
