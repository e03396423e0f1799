// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <set>

#include "peft/checkpoint/adapter_file.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"

namespace peft {

namespace detail {

// The version of PEFT whose file format this is.
inline constexpr const char* peft_format_version = "0.21.2";

/// Reads the fields of an adapter_config.json; what has been asked for is known.
class AdapterFields {
 public:
  AdapterFields(const Json& json, std::string path) : json_(json), path_(std::move(path)) {}

  const Json* find(const char* key) {
    known_.insert(key);
    const Json* value = json_.get(key);
    return value && !value->is_null() ? value : nullptr;
  }
  template <class F>
  void read(const char* key, F f) {
    if (const Json* value = find(key)) {
      try {
        f(*value);
      } catch (const NotSupported&) {
        throw;
      } catch (const Error& error) {
        throw FormatError(path_, -1, std::string(key) + ": " + error.what());
      }
    }
  }
  void read(const char* key, std::int64_t& to) {
    read(key, [&](const Json& v) { to = v.integer(); });
  }
  void read(const char* key, double& to) {
    read(key, [&](const Json& v) { to = v.number(); });
  }
  void read(const char* key, bool& to) {
    read(key, [&](const Json& v) { to = v.boolean(); });
  }
  void read(const char* key, std::string& to) {
    read(key, [&](const Json& v) { to = v.string(); });
  }
  void read(const char* key, TargetModules& to) {
    read(key, [&](const Json& v) {
      if (v.is_string())
        to = TargetModules(std::string(v.string()));
      else
        to = TargetModules(strings(v));
    });
  }
  static std::vector<std::string> strings(const Json& v) {
    std::vector<std::string> all;
    for (const Json& item : v.array()) all.emplace_back(item.string());
    return all;
  }
  /// An option that changes the result and is not done here: anything but null, false, or empty is refused.
  void refuse_if_set(const char* key) {
    const Json* value = find(key);
    if (!value) return;
    const bool off = (value->is_boolean() && !value->boolean()) || (value->is_array() && value->size() == 0) || (value->is_object() && value->size() == 0);
    if (!off) throw NotSupported("read_adapter_config", path_ + ": " + key + " = " + value->dump() + " is not supported");
  }
  /// A key whose value is handed on as the file has it.
  void keep(const char* key) {
    if (const Json* value = find(key)) kept_[key] = value->dump();
  }
  /// What is written again as it was read: keys handed on, and keys that nobody asked for.
  std::map<std::string, std::string> rest() const {
    std::map<std::string, std::string> rest = kept_;
    for (const auto& [key, value] : json_.object())
      if (!known_.count(std::string(key))) rest[std::string(key)] = value.dump();
    return rest;
  }

 private:
  const Json& json_;
  std::string path_;
  std::set<std::string> known_;
  std::map<std::string, std::string> kept_;
};

PEFT_INLINE LoraConfig lora_config_from(AdapterFields& f, const std::string& path) {
  LoraConfig c;
  f.read("r", c.r);
  f.read("lora_alpha", c.lora_alpha);
  f.read("target_modules", c.target_modules);
  f.read("exclude_modules", c.exclude_modules);
  f.read("lora_dropout", c.lora_dropout);
  f.read("use_rslora", c.use_rslora);
  f.read("bias", c.bias);
  f.read("init_lora_weights", [&](const Json& v) {
    if (v.is_boolean()) {
      c.init_lora_weights = v.boolean();
      return;
    }
    const std::string kind(v.string());
    // These begin elsewhere and leave an ordinary LoRA; the others change the base, and a loader would have to change it again.
    if (kind == "gaussian")
      c.init_lora_weights = InitLoraWeights("gaussian");
    else if (kind != "eva" && kind != "orthogonal")
      throw NotSupported("read_adapter_config",
                         "init_lora_weights \"" + kind +
                             "\" belongs to a base whose weights were changed when the adapter began, which is not supported; save the adapter with "
                             "PEFT's path_initial_model_for_weight_conversion, which makes an ordinary LoRA of it");
  });
  f.read("layers_to_transform", [&](const Json& v) {
    if (v.is_array()) {
      for (const Json& layer : v.array()) c.layers_to_transform.push_back(layer.integer());
    } else {
      c.layers_to_transform = {v.integer()};
    }
  });
  f.read("layers_pattern",
         [&](const Json& v) { c.layers_pattern = v.is_string() ? std::vector<std::string>{std::string(v.string())} : AdapterFields::strings(v); });
  f.read("rank_pattern", [&](const Json& v) {
    for (const auto& [pattern, r] : v.object()) c.rank_pattern.emplace_back(pattern, r.integer());
  });
  f.read("alpha_pattern", [&](const Json& v) {
    for (const auto& [pattern, alpha] : v.object()) c.alpha_pattern.emplace_back(pattern, alpha.number());
  });
  for (const char* key : {"use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication", "use_qalora",
                          "alora_invocation_tokens", "use_bdlora", "arrow_config", "kasa_config", "velora_config", "monteclora_config", "ensure_weight_tying"})
    f.refuse_if_set(key);
  for (const char* key : {"fan_in_fan_out", "megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
                          "qalora_group_size", "layers_pattern", "layers_to_transform", "init_lora_weights"})
    f.keep(key);
  try {
    validate(c);
  } catch (const ConfigError& error) {
    throw FormatError(path, -1, error.what());
  }
  return c;
}

PEFT_INLINE Json target_json(const TargetModules& targets) {
  if (targets.empty()) return Json();
  if (!targets.is_list()) return Json(targets.pattern());
  Json list = Json::make_array();
  for (const std::string& name : targets.names()) list.push_back(Json(name));
  return list;
}

PEFT_INLINE Json lora_config_json(const LoraConfig& c) {
  Json j = Json::make_object();
  for (const char* key : {"alora_invocation_tokens", "arrow_config", "auto_mapping", "corda_config", "eva_config", "kasa_config", "layer_replication",
                          "layers_pattern", "layers_to_transform", "lora_ga_config", "megatron_config", "modules_to_save", "monteclora_config", "revision",
                          "target_parameters", "trainable_token_indices", "use_bdlora", "velora_config"})
    j.set(key, Json());
  for (const char* key : {"ensure_weight_tying", "fan_in_fan_out", "lora_bias", "use_dora", "use_qalora"}) j.set(key, Json(false));
  j.set("loftq_config", Json::make_object());
  j.set("megatron_core", Json("megatron.core"));
  j.set("qalora_group_size", Json(std::int64_t{16}));
  j.set("peft_type", Json("LORA"));
  j.set("r", Json(c.r));
  // A whole number as PEFT's default is one; it may be a fraction.
  j.set("lora_alpha", c.lora_alpha == std::floor(c.lora_alpha) && std::abs(c.lora_alpha) < 1e15 ? Json(std::int64_t(c.lora_alpha)) : Json(c.lora_alpha));
  j.set("lora_dropout", Json(c.lora_dropout));
  j.set("bias", Json(c.bias));
  j.set("use_rslora", Json(c.use_rslora));
  const auto init = c.init_lora_weights.kind();
  j.set("init_lora_weights", init == InitLoraWeights::gaussian ? Json("gaussian") : Json(init == InitLoraWeights::zero_b));
  j.set("target_modules", target_json(c.target_modules));
  j.set("exclude_modules", target_json(c.exclude_modules));
  if (!c.layers_to_transform.empty()) {
    Json list = Json::make_array();
    for (std::int64_t layer : c.layers_to_transform) list.push_back(Json(layer));
    j.set("layers_to_transform", std::move(list));
  }
  if (!c.layers_pattern.empty()) {
    Json list = Json::make_array();
    for (const std::string& pattern : c.layers_pattern) list.push_back(Json(pattern));
    j.set("layers_pattern", std::move(list));
  }
  Json ranks = Json::make_object(), alphas = Json::make_object();
  for (const auto& [pattern, r] : c.rank_pattern) ranks.set(pattern, Json(r));
  for (const auto& [pattern, alpha] : c.alpha_pattern) alphas.set(pattern, alpha == std::floor(alpha) ? Json(std::int64_t(alpha)) : Json(alpha));
  j.set("rank_pattern", std::move(ranks));
  j.set("alpha_pattern", std::move(alphas));
  j.set("task_type", c.task_type.empty() ? Json() : Json(c.task_type));
  return j;
}

PEFT_INLINE void write_adapter(const std::string& directory, const AnyAdapterConfig& config, const std::string& base_model,
                               const std::map<std::string, std::string>& extra, const std::vector<NamedTensor>& tensors) {
  namespace fs = std::filesystem;
  std::error_code failure;
  fs::create_directories(directory, failure);
  if (failure) throw FormatError(directory, -1, "cannot be created: " + failure.message());
  Json json = std::visit([](const LoraConfig& c) { return lora_config_json(c); }, config);
  for (const auto& [key, text] : extra) json.set(key, Json::parse(text, "adapter_config.json"));
  json.set("base_model_name_or_path", base_model.empty() ? Json() : Json(base_model));
  json.set("inference_mode", Json(true));
  json.set("peft_version", Json(peft_format_version));
  std::vector<TensorToWrite> all;
  for (const NamedTensor& t : tensors) all.push_back({t.name, DType::f32, t.shape, t.data});
  write_safetensors((fs::path(directory) / "adapter_model.safetensors").string(), all, {{"format", "pt"}});
  write_text_atomically((fs::path(directory) / "adapter_config.json").string(), json.dump(2, true));
}

PEFT_INLINE void read_adapter(const std::string& directory, const std::vector<NamedTensor>& wanted,
                              const std::function<void(std::size_t, const Tensor<float>&)>& assign) {
  namespace fs = std::filesystem;
  const std::string path = (fs::path(directory) / "adapter_model.safetensors").string();
  if (!fs::exists(path) && fs::exists(fs::path(directory) / "adapter_model.bin"))
    throw FormatError(directory, -1,
                      "only adapter_model.bin, a Python pickle, is here; load it with PEFT and save_pretrained it again, which writes safetensors");
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::vector<std::string> missing, unexpected, misshapen;
  std::set<std::string> names;
  for (const NamedTensor& t : wanted) {
    names.insert(t.name);
    const auto* found = file.find(t.name);
    if (!found)
      missing.push_back(t.name);
    else if (!(found->shape == t.shape))
      misshapen.push_back(t.name + " is " + to_string(found->shape) + ", this model wants " + to_string(t.shape));
  }
  for (const auto& tensor : file.tensors())
    if (!names.count(tensor.name)) unexpected.push_back(tensor.name);
  if (!missing.empty() || !unexpected.empty() || !misshapen.empty()) {
    const auto list = [](const std::vector<std::string>& all) {
      std::string text;
      for (std::size_t i = 0; i < all.size() && i < 4; i++) text += (i ? ", " : " (") + all[i];
      return text + (all.empty() ? "" : all.size() > 4 ? ", …)" : ")");
    };
    throw CheckpointError("load_adapter", path + " does not fit: missing " + std::to_string(missing.size()) + " tensors" + list(missing) + ",\n  unexpected " +
                                              std::to_string(unexpected.size()) + list(unexpected) + ", wrong shape " + std::to_string(misshapen.size()) +
                                              list(misshapen) + ". Nothing was loaded.");
  }
  std::vector<Tensor<float>> values;  // all of them, before the first is assigned
  for (const NamedTensor& t : wanted) values.push_back(file.read<float>(t.name));
  for (std::size_t i = 0; i < wanted.size(); i++) assign(i, values[i]);
}

}  // namespace detail

PEFT_INLINE AdapterFileConfig read_adapter_config(const std::string& directory) {
  const std::string path = (std::filesystem::path(directory) / "adapter_config.json").string();
  if (!std::filesystem::exists(path))
    throw FormatError(path, -1, "no such file; an adapter is a directory with adapter_config.json and adapter_model.safetensors");
  const Json json = Json::read(path);
  if (!json.is_object()) throw FormatError(path, -1, "an object is wanted");
  detail::AdapterFields f(json, path);
  AdapterFileConfig file;
  std::string peft_type, task_type;
  f.read("peft_type", peft_type);
  if (peft_type.empty()) throw FormatError(path, -1, "peft_type is missing");
  f.read("task_type", task_type);
  const std::array<std::string, 6> tasks = {"CAUSAL_LM", "SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"};
  if (!task_type.empty() && std::ranges::find(tasks, task_type) == tasks.end())
    throw FormatError(path, -1, "task_type \"" + task_type + "\" is not known" + did_you_mean(task_type, tasks, "known are"));
  f.read("base_model_name_or_path", file.base_model_name_or_path);
  for (const char* key : {"peft_version", "inference_mode"}) f.find(key);
  for (const char* key : {"auto_mapping", "revision"}) f.keep(key);
  const std::array<std::string, 1> methods = {"LORA"};
  if (peft_type != "LORA")
    throw NotSupported("read_adapter_config", path + ": peft_type \"" + peft_type + "\" is not supported" + did_you_mean(peft_type, methods, "supported are"));
  LoraConfig config = detail::lora_config_from(f, path);
  config.task_type = task_type;
  file.config = std::move(config);
  file.extra = f.rest();
  return file;
}

}  // namespace peft
