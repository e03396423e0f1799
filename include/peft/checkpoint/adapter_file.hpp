// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>

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
/// (NotSupported naming key and value). Throws FormatError for a file that is no JSON.
AdapterFileConfig read_adapter_config(const std::string& directory);

namespace detail {
/// The config of an entry as one of the registry's; empty if the method is somebody's own.
std::optional<AnyAdapterConfig> registered(const std::any& config);
void write_adapter(const std::string& directory, const AnyAdapterConfig& config, const std::string& base_model, const std::map<std::string, std::string>& extra,
                   const AdapterTensors& tensors);
/// All tensors of DIR/adapter_model.safetensors.
AdapterTensors read_adapter_tensors(const std::string& directory);

/// A tensor that an adapter has, by its name in a file.
struct WantedTensor {
  std::string name;
  Shape shape;
};
/// Every missing, unexpected and misshapen tensor in one CheckpointError.
void check_adapter_tensors(const std::string& directory, const AdapterTensors& found, const std::vector<WantedTensor>& wanted);
/// True if a table that an adapter's file has along is the base's own, as far as the base's storage can tell.
bool is_the_same_table(const Tensor<float>& found, const Tensor<float>& base, bool rounded);
}  // namespace detail

/// Writes DIR/adapter_config.json and DIR/adapter_model.safetensors as PEFT's save_pretrained does (float32, sorted keys); each file appears
/// whole or not at all. `base_model`: what the config names as the base.
template <class M>
void save_adapter(const PeftModel<M>& model, const std::string& name, const std::string& directory, std::string base_model = "") {
  const auto& entry = model.entry(name);
  std::optional<AnyAdapterConfig> config = detail::registered(entry.config);
  if (!config) throw AdapterError("save_adapter", "the method " + entry.peft_type + " of adapter \"" + name + "\" has no PEFT file format");
  if constexpr (requires { model.model().config.name; })
    if (base_model.empty()) base_model = model.model().config.name;
  AdapterTensors tensors;
  model.for_each_adapter_tensor(name, [&](const std::string& file_name, const auto& parameter) {
    const auto from = parameter.dense();
    AdapterTensor t{file_name, Tensor<float>(parameter.shape())};
    for (std::int64_t i = 0; i < t.values.size(); i++) t.values[i] = float(from[i]);
    tensors.push_back(std::move(t));
  });
  if (entry.shared) {
    std::any copy = entry.config;
    entry.shared->to_file(copy, tensors);
    config = detail::registered(copy);
  }
  std::visit(
      [&](auto& c) {
        if constexpr (requires { to_file(c, tensors); }) to_file(c, tensors);
      },
      *config);
  detail::write_adapter(directory, *config, base_model, entry.extra, tensors);
}

/// Adds the adapter in DIR under `name`, exactly as it was saved, by this library or by PEFT. Strict: an adapter that does not fit is refused
/// with all reasons at once, and nothing is attached. Trains only if `trainable`.
template <class M>
void load_adapter(PeftModel<M>& model, const std::string& name, const std::string& directory, bool trainable = false) {
  using T = typename PeftModel<M>::T;
  const AdapterFileConfig file = read_adapter_config(directory);
  std::visit([&](const auto& config) { model.add_adapter(name, config, 0, false); }, file.config);
  try {
    AdapterTensors tensors = detail::read_adapter_tensors(directory);
    std::visit(
        [&](const auto& c) {
          if constexpr (requires { from_file(c, tensors); }) from_file(c, tensors);
        },
        file.config);
    if (const auto& shared = model.entry(name).shared) shared->from_file(tensors);
    std::set<const void*> of_the_base;
    for_each_parameter(model.model(), [&](const std::string&, const auto& parameter) { of_the_base.insert(parameter.identity()); });
    std::vector<detail::WantedTensor> wanted;
    std::vector<Parameter<T>> parameters;
    model.for_each_adapter_tensor(name, [&](const std::string& file_name, const auto& parameter) {
      wanted.push_back({file_name, parameter.shape()});
      parameters.push_back(parameter);
    });
    detail::check_adapter_tensors(directory, tensors, wanted);
    for (std::size_t i = 0; i < wanted.size(); i++) {
      const Tensor<float>& values = find_tensor(tensors, wanted[i].name)->values;
      const Parameter<T>& parameter = parameters[i];
      if (of_the_base.count(parameter.identity())) {  // a part of the base that PEFT stores along
        Tensor<float> own(parameter.shape());
        const Tensor<T> base = parameter.dense();
        for (std::int64_t k = 0; k < own.size(); k++) own[k] = float(base[k]);
        if (!detail::is_the_same_table(values, own, parameter.is_stored() && parameter.dtype() != DType::f32))
          throw AdapterError("load_adapter",
                             directory + " brings its own " + wanted[i].name + ", which is not this base's; load it with the base that it was trained on");
        continue;
      }
      const auto& to = parameter.value();
      for (std::int64_t k = 0; k < values.size(); k++) to[k] = T(values[k]);
      parameter.touch();
      parameter.set_requires_grad(trainable && parameter.requires_grad());
    }
    model.entry(name).extra = file.extra;
  } catch (...) {
    model.delete_adapter(name);
    throw;
  }
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/adapter_file.inl"
#else
namespace peft {
// A registry of many methods, each at every kind of site: compiled once.
extern template void save_adapter(const PeftModel<Transformer<float>>&, const std::string&, const std::string&, std::string);
extern template void load_adapter(PeftModel<Transformer<float>>&, const std::string&, const std::string&, bool);
}  // namespace peft
#endif
