// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <new>
#include <string_view>
#include <unordered_map>

#include "peft/adapters/peft_model.hpp"
#include "peft/adapters/registry.hpp"
#include "peft/checkpoint/adapter_task.hpp"
#include "peft/checkpoint/gguf_adapter.hpp"
#include "peft/checkpoint/mlx_adapter.hpp"
#include "peft/checkpoint/prefix_file.hpp"
#include "peft/nn/transformer.hpp"

namespace peft {

namespace detail {
/// True if this is a file and no directory.
bool is_file(const std::string& path);
}  // namespace detail

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
/// Every missing, unexpected and misshapen tensor in one CheckpointError, which names the file.
void check_adapter_tensors(const std::string& file, const AdapterTensors& found, const std::vector<WantedTensor>& wanted);
/// True if a table that an adapter's file has along is the base's own, as far as the base's storage can tell.
bool is_the_same_table(const Tensor<float>& found, const Tensor<float>& base, bool rounded);

template <Scalar To, Scalar From>
Tensor<To> converted(const Tensor<From>& values) {
  Tensor<To> to(values.shape());
  for (std::int64_t i = 0; i < to.size(); i++) to[i] = To(values[i]);
  return to;
}
/// What an adapter's parameters hold, by their names in a file: the very tensors where these are float32.
template <class M>
AdapterTensors adapter_tensors(const PeftModel<M>& model, const std::string& name) {
  AdapterTensors tensors;
  model.for_each_adapter_tensor(name, [&](const std::string& file_name, const auto& parameter) {
    if constexpr (std::same_as<typename PeftModel<M>::T, float>)
      tensors.push_back({file_name, parameter.is_stored() || parameter.size() == 0 ? parameter.dense() : parameter.value()});
    else
      tensors.push_back({file_name, converted<float>(parameter.dense())});
  });
  return tensors;
}

/// f(name in the file, parameter) for what PEFT stores of the base: the tensors of the input embedding and of the head that the adapter sits on, where
/// target_modules names "embed_tokens" or "lm_head".
template <class M, class C, class F>
void for_each_stored_along(const PeftModel<M>& model, const std::string& name, const C& config, F f) {
  if constexpr (requires { config.target_modules; }) {
    if constexpr (requires { config.trainable_token_indices; })
      if (!config.trainable_token_indices.empty()) return;
    if (std::same_as<C, TrainableTokensConfig> || config.target_modules.all_linear()) return;
    const auto& targets = config.target_modules;
    const ModelInfo info = model.info();
    bool named = false;
    for (const std::string& path : {info.embedding, info.head})
      for (const char* known : {"embed_tokens", "lm_head"})
        named = named || (targets.is_list() ? std::ranges::count(targets.names(), known) > 0 : is_suffix_of(known, path) && targets.matches(path));
    if (!named) return;
    const int id = model.entry(name).id;
    for_each_site(model.model(), [&](const std::string& path, auto& site) {
      if ((path != info.embedding && path != info.head) || !site.adapters.has(id)) return;
      if constexpr (requires { site.weight; }) f("base_model.model." + path + ".base_layer.weight", site.weight);
      if constexpr (requires { site.bias; })
        if (site.bias) f("base_model.model." + path + ".base_layer.bias", site.bias);
    });
  }
}
/// Takes out of `tensors` what is the base's own and no part of the adapter; throws AdapterError where it is another base's.
template <class M>
void check_stored_along(const PeftModel<M>& model, const std::string& path, AdapterTensors& tensors, const std::vector<WantedTensor>& wanted) {
  for_each_site(model.model(), [&](const std::string& site_path, auto& site) {
    const auto check = [&](const std::string& inner, const auto& parameter) {
      const std::string name = "base_model.model." + site_path + ".base_layer." + inner;
      const AdapterTensor* found = find_tensor(tensors, name);
      if (!found || std::ranges::any_of(wanted, [&](const WantedTensor& t) { return t.name == name; })) return;
      if (found->values.shape() != parameter.shape() ||
          !is_the_same_table(found->values, converted<float>(parameter.dense()), parameter.is_stored() && parameter.dtype() != DType::f32))
        throw AdapterError("load_adapter", path + " brings its own " + name + ", which is not this base's; load it with the base that it was trained on");
      std::erase_if(tensors, [&](const AdapterTensor& t) { return t.name == name; });
    };
    if constexpr (requires { site.weight; }) check("weight", site.weight);
    if constexpr (requires { site.bias; })
      if (site.bias) check("bias", site.bias);
  });
}
}  // namespace detail

/// Writes DIR/adapter_config.json and DIR/adapter_model.safetensors as PEFT's save_pretrained does (float32, sorted keys); each file appears
/// whole or not at all; beside them DIR/labels.json for a model that classifies. `base_model`: what the config names as the base.
template <class M>
void save_adapter(const PeftModel<M>& model, const std::string& name, const std::string& directory, std::string base_model = "") {
  const auto& entry = model.entry(name);
  std::optional<AnyAdapterConfig> config = detail::registered(entry.config);
  if (!config) throw AdapterError("save_adapter", "the method " + entry.peft_type + " of adapter \"" + name + "\" has no PEFT file format");
  if constexpr (requires { model.model().config.name; })
    if (base_model.empty()) base_model = model.model().config.name;
  AdapterTensors tensors = detail::adapter_tensors(model, name);
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
  std::visit(
      [&](const auto& c) {
        detail::for_each_stored_along(model, name, c, [&](const std::string& file_name, const auto& parameter) {
          if (!find_tensor(tensors, file_name)) tensors.push_back({file_name, detail::converted<float>(parameter.dense())});
        });
      },
      *config);
  detail::write_adapter(directory, *config, base_model, entry.extra, tensors);
  if constexpr (requires { model.model().config.head.label_names; }) save_labels(model.model().config.head, directory);
}

/// Adds the adapter at `path` under `name`, exactly as it was saved, by this library or by PEFT: a directory, or a GGUF file with a LoRA (of a
/// Transformer), or a directory with a prefix of ChatGLM's own (has_prefix_encoder) or a LoRA of mlx-lm's (has_mlx_adapter). Strict: an adapter that does not
/// fit is refused with all reasons at once, and nothing is attached. Trains only if `trainable`.
template <class M>
void load_adapter(PeftModel<M>& model, const std::string& name, const std::string& path, bool trainable = false) {
  using T = typename PeftModel<M>::T;
  AdapterTensors tensors;
  AdapterFileConfig file;
  const bool is_gguf = detail::is_file(path), is_prefix = !is_gguf && has_prefix_encoder(path);
  const bool is_mlx = !is_gguf && !is_prefix && has_mlx_adapter(path), is_peft = !is_gguf && !is_prefix && !is_mlx;
  if (is_prefix) {
    file.config = read_prefix_encoder(path, tensors);
  } else if (is_mlx) {
    file.config = read_mlx_adapter(path, model.info().embedding, tensors);
  } else if (is_peft) {
    file = read_adapter_config(path);
  } else if constexpr (requires(const TransformerConfig& c) { c.head.tied, model.model().config = c; }) {
    GgufAdapter adapter = read_gguf_adapter(path, model.model().config);
    file.config = std::move(adapter.config), tensors = std::move(adapter.tensors);
  } else {
    throw NotSupported("load_adapter", path + ": a GGUF adapter goes with a Transformer");
  }
  try {
    const LeaveUnfilled its_numbers_follow;
    add_adapter(model, name, file.config, 0, false);
  } catch (const std::bad_alloc&) {
    throw AdapterError("load_adapter", path + ": its configuration asks for more memory than there is");
  }
  try {
    if (is_peft) tensors = detail::read_adapter_tensors(path);
    std::visit(
        [&](const auto& c) {
          if constexpr (requires { from_file(c, tensors); }) from_file(c, tensors);
        },
        file.config);
    if (const auto& shared = model.entry(name).shared; shared && !is_prefix) shared->from_file(tensors);
    std::vector<detail::WantedTensor> wanted;
    std::vector<Parameter<T>> parameters;
    model.for_each_adapter_tensor(name, [&](const std::string& file_name, const auto& parameter) {
      wanted.push_back({file_name, parameter.shape()});
      parameters.push_back(parameter);
    });
    detail::check_stored_along(model, path, tensors, wanted);
    detail::check_adapter_tensors(is_peft ? path + "/adapter_model.safetensors" : path, tensors, wanted);
    std::unordered_map<std::string_view, AdapterTensor*> by_name;
    for (AdapterTensor& t : tensors) by_name.emplace(t.name, &t);
    for (std::size_t i = 0; i < wanted.size(); i++) {
      Tensor<float>& values = by_name.at(wanted[i].name)->values;
      if (!values) continue;  // visited at several places
      const Parameter<T>& parameter = parameters[i];
      if constexpr (std::same_as<T, float>)
        parameter.assign(std::move(values));
      else
        parameter.assign(detail::converted<T>(values));
      parameter.set_requires_grad(trainable && parameter.requires_grad());
    }
    model.entry(name).extra = file.extra;
  } catch (...) {
    model.delete_adapter(name);
    throw;
  }
}

/// Puts the adapter at `path` in the place of `name` (PEFT's hotswap_adapter): it has its name then, and is active where that one was. Method, rank and
/// modules may be others. What does not load changes nothing. Not while another thread runs the model.
template <class M>
void hotswap_adapter(PeftModel<M>& model, const std::string& name, const std::string& path, bool trainable = false) {
  model.entry(name);
  const std::string incoming = name + ".incoming";
  load_adapter(model, incoming, path, trainable);
  model.replace_adapter(name, incoming);
}

/// Writes a LoRA as a GGUF adapter, which llama.cpp loads: float32, the names and the order of rows of GGUF. Other methods, and what GGUF has no place
/// for (DoRA, biases, saved modules, trained tokens, PiSSA, OLoRA, LoftQ), are refused (NotSupported).
template <class M>
void save_gguf_adapter(const PeftModel<M>& model, const std::string& name, const std::string& path) {
  const auto& entry = model.entry(name);
  const auto* config = std::any_cast<LoraConfig>(&entry.config);
  if (!config) throw NotSupported("save_gguf_adapter", "\"" + name + "\" is of the method " + entry.peft_type + "; GGUF has a form for LORA alone");
  write_gguf_adapter(path, model.model().config, *config, detail::adapter_tensors(model, name));
}

/// Writes a prefix as ChatGLM's own files have it, with its projection: DIR/config.json, which says pre_seq_len and prefix_projection, and
/// DIR/prefix_encoder.safetensors. Throws NotSupported for other methods and models, and for a projection of another width.
template <class M>
void save_prefix_encoder(const PeftModel<M>& model, const std::string& name, const std::string& directory) {
  const auto& entry = model.entry(name);
  const auto* config = std::any_cast<PrefixTuningConfig>(&entry.config);
  if (!config)
    throw NotSupported("save_prefix_encoder", "\"" + name + "\" is of the method " + entry.peft_type + "; ChatGLM has a form for PREFIX_TUNING alone");
  write_prefix_encoder(directory, model.model().config, *config, detail::adapter_tensors(model, name));
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/adapter_file.inl"
#else
namespace peft {
extern template void save_adapter(const PeftModel<Transformer<float>>&, const std::string&, const std::string&, std::string);
extern template void load_adapter(PeftModel<Transformer<float>>&, const std::string&, const std::string&, bool);
}  // namespace peft
#endif
