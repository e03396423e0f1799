// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "peft/adapters/peft_model.hpp"
#include "peft/adapters/registry.hpp"
#include "peft/nn/transformer.hpp"

namespace peft {

/// What adapter_config.json says.
struct AdapterFileConfig {
  AnyAdapterConfig config;
  std::string base_model_name_or_path;
  std::map<std::string, std::string> extra;  // keys that this library does not know, as JSON text
};

/// Reads DIR/adapter_config.json. Unknown keys are kept; a method or option that would change the result and is not supported is refused
/// (ConfigError naming key and value). Throws FormatError for a file that is no JSON.
AdapterFileConfig read_adapter_config(const std::string& directory);

/// One tensor of an adapter, by its name in the file ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").
struct NamedTensor {
  std::string name;
  Shape shape;
  const float* data = nullptr;
};

namespace detail {
void write_adapter(const std::string& directory, const AnyAdapterConfig& config, const std::string& base_model, const std::map<std::string, std::string>& extra,
                   const std::vector<NamedTensor>& tensors);
/// Reads DIR/adapter_model.safetensors and checks it against `wanted`: every missing, unexpected and misshapen tensor in one CheckpointError.
/// Then gives each of them to `assign(index, values)`.
void read_adapter(const std::string& directory, const std::vector<NamedTensor>& wanted, const std::function<void(std::size_t, const Tensor<float>&)>& assign);
}  // namespace detail

/// Writes DIR/adapter_config.json and DIR/adapter_model.safetensors as PEFT's save_pretrained does (float32, sorted keys); each file appears
/// whole or not at all. `base_model`: what the config names as the base.
template <class M>
void save_adapter(const PeftModel<M>& model, const std::string& name, const std::string& directory, std::string base_model = "") {
  const auto& entry = model.entry(name);
  const AnyAdapterConfig* config = nullptr;
  AnyAdapterConfig copy;
  if (const auto* lora = std::any_cast<LoraConfig>(&entry.config)) copy = *lora, config = &copy;
  if (!config) throw AdapterError("save_adapter", "the method " + entry.peft_type + " of adapter \"" + name + "\" has no PEFT file format");
  if constexpr (requires { model.model().config.name; })
    if (base_model.empty()) base_model = model.model().config.name;
  std::vector<NamedTensor> tensors;
  std::vector<Tensor<float>> held;
  model.for_each_adapter_parameter(name, [&](const std::string& path, const auto& parameter) {
    Tensor<float> values(parameter.shape());
    const auto from = parameter.value();
    for (std::int64_t i = 0; i < values.size(); i++) values[i] = float(from[i]);
    held.push_back(values);
    tensors.push_back({"base_model.model." + path, parameter.shape(), values.data()});
  });
  detail::write_adapter(directory, *config, base_model, entry.extra, tensors);
}

/// Adds the adapter in DIR under `name`, exactly as it was saved, by this library or by PEFT. Strict: an adapter that does not fit is refused
/// with all reasons at once, and nothing is attached. Trains only if `trainable`.
template <class M>
void load_adapter(PeftModel<M>& model, const std::string& name, const std::string& directory, bool trainable = false) {
  const AdapterFileConfig file = read_adapter_config(directory);
  std::visit([&](const auto& config) { model.add_adapter(name, config, 0, false); }, file.config);
  try {
    std::vector<NamedTensor> wanted;
    std::vector<Parameter<typename PeftModel<M>::T>> parameters;
    model.for_each_adapter_parameter(name, [&](const std::string& path, auto& parameter) {
      wanted.push_back({"base_model.model." + path, parameter.shape(), nullptr});
      parameters.push_back(parameter);
    });
    detail::read_adapter(directory, wanted, [&](std::size_t i, const Tensor<float>& values) {
      const auto& to = parameters[i].value();
      for (std::int64_t k = 0; k < values.size(); k++) to[k] = values[k];
      parameters[i].touch();
      parameters[i].set_requires_grad(trainable);
    });
    model.entry(name).extra = file.extra;
  } catch (...) {
    model.delete_adapter(name);
    throw;
  }
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/adapter_file.inl"
#endif
