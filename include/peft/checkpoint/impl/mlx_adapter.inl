// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <filesystem>
#include <map>

#include "peft/checkpoint/mlx_adapter.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"

namespace peft {

PEFT_INLINE bool has_mlx_adapter(const std::string& directory) {
  namespace fs = std::filesystem;
  const fs::path config = fs::path(directory) / "adapter_config.json";
  if (!fs::exists(fs::path(directory) / "adapters.safetensors") || !fs::exists(config)) return false;
  const Json json = Json::read(config.string());
  return json.is_object() && !json.get("peft_type");
}

PEFT_INLINE LoraConfig read_mlx_adapter(const std::string& directory, const std::string& embedding, AdapterTensors& tensors) {
  namespace fs = std::filesystem;
  const std::string config_path = (fs::path(directory) / "adapter_config.json").string(), path = (fs::path(directory) / "adapters.safetensors").string();
  const Json json = Json::read(config_path);
  LoraConfig config;
  double scale = 0;
  std::int64_t rank = 0;
  std::string type = "lora";  // before mlx-lm knew others
  try {
    if (const Json* given = json.get("fine_tune_type")) type = given->string();
    if (const Json* parameters = json.get("lora_parameters")) {
      scale = parameters->at("scale").number(), rank = parameters->at("rank").integer();
      if (const Json* dropout = parameters->get("dropout")) config.lora_dropout = dropout->number();
    }
  } catch (const Error& error) {
    throw FormatError(config_path, -1, error.what());
  }
  if (type != "lora" && type != "dora")
    throw NotSupported("load_adapter", config_path + ": fine_tune_type \"" + type + "\" of mlx-lm; an adapter is \"lora\" or \"dora\"");
  if (rank < 1) throw FormatError(config_path, -1, "an adapter of mlx-lm says lora_parameters with a rank and a scale; these are missing");
  config.use_dora = type == "dora", config.r = rank, config.lora_alpha = scale * double(rank);

  struct Module {
    const SafetensorsEntry *a = nullptr, *b = nullptr, *m = nullptr;
  };
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::map<std::string, Module> modules;
  for (const SafetensorsEntry& entry : file.tensors()) {
    const std::size_t dot = entry.name.rfind('.');
    const std::string part = dot == std::string::npos ? entry.name : entry.name.substr(dot + 1);
    Module& module = modules[dot == std::string::npos ? "" : entry.name.substr(0, dot)];
    const bool is_factor = part == "lora_a" || part == "lora_b", is_length = part == "m" && config.use_dora;
    if (!is_factor && !is_length)
      throw NotSupported("load_adapter",
                         path + ": tensor " + entry.name + "; what is read of mlx-lm's adapters is lora_a, lora_b and, of fine_tune_type \"dora\", m");
    if (entry.shape.rank() != (is_factor ? 2 : 1))
      throw NotSupported("load_adapter",
                         path + ": tensor " + entry.name + " " + to_string(entry.shape) + "; factors are matrices (those of experts are not read)");
    (part == "lora_a" ? module.a : part == "lora_b" ? module.b : module.m) = &entry;
  }
  if (modules.empty()) throw FormatError(path, -1, "the adapter has no tensors");

  const auto transposed = [&](const SafetensorsEntry& entry) {
    const Tensor<float> from = file.read<float>(entry.name);
    Tensor<float> to({from.cols(), from.rows()});
    for (std::int64_t i = 0; i < to.rows(); i++)
      for (std::int64_t j = 0; j < to.cols(); j++) to(i, j) = from(j, i);
    return to;
  };
  std::vector<std::string> targets;
  for (const auto& [name, module] : modules) {
    if (!module.a || !module.b || (config.use_dora && !module.m))
      throw FormatError(path, -1, name + " has no " + (!module.a ? "lora_a" : !module.b ? "lora_b" : "m, which a \"dora\" has"));
    if (module.a->shape[1] != rank || module.b->shape[0] != rank)
      throw FormatError(path, -1,
                        name + " has lora_a " + to_string(module.a->shape) + " and lora_b " + to_string(module.b->shape) +
                            "; adapter_config.json says a rank of " + std::to_string(rank));
    const bool on_embedding = name == embedding;
    const std::string prefix = "base_model.model." + name;
    tensors.push_back({prefix + (on_embedding ? ".lora_embedding_A" : ".lora_A.weight"), transposed(*module.a)});
    tensors.push_back({prefix + (on_embedding ? ".lora_embedding_B" : ".lora_B.weight"), transposed(*module.b)});
    if (module.m) tensors.push_back({prefix + ".lora_magnitude_vector", file.read<float>(module.m->name)});
    targets.push_back(name);
  }
  config.target_modules = TargetModules(targets);
  try {
    validate(config);
  } catch (const ConfigError& error) {
    throw FormatError(config_path, -1, error.what());
  }
  return config;
}

}  // namespace peft
