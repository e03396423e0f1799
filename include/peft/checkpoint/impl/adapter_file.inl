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
  /// An option of which one value is supported: other ones are refused, except null and what is empty.
  void refuse_unless(const char* key, const char* only) {
    const Json* value = find(key);
    if (!value) return;
    const Json wanted = Json::parse(only, key);
    const bool off = (value->is_boolean() && !value->boolean() && wanted.is_null()) || (value->is_array() && value->size() == 0) ||
                     (value->is_object() && value->size() == 0);
    const bool same = *value == wanted || (value->is_number() && wanted.is_number() && value->number() == wanted.number());
    if (!off && !same) throw NotSupported("read_adapter_config", path_ + ": " + key + " = " + value->dump() + " is not supported");
  }
  /// A key whose value is handed on as the file has it.
  void keep(const char* key) {
    known_.insert(key);
    if (const Json* value = json_.get(key)) kept_[key] = value->dump();
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

/// A config's `describe`, reading.
class FieldReader {
 public:
  explicit FieldReader(AdapterFields& f) : f_(f) {}
  void operator()(const char* key, std::optional<std::string>& to) {
    f_.read(key, [&](const Json& v) { to = v.string(); });
  }
  void operator()(const char* key, std::vector<std::int64_t>& to) {
    f_.read(key, [&](const Json& v) { to = integers(v); });
  }
  void operator()(const char* key, std::vector<std::string>& to) {
    f_.read(key, [&](const Json& v) { to = v.is_string() ? std::vector<std::string>{v.string()} : AdapterFields::strings(v); });
  }
  void operator()(const char* key, Toggle& to) {
    f_.read(key, [&](const Json& v) { to = v.is_boolean() ? Toggle(v.boolean()) : Toggle(v.string()); });
  }
  void operator()(const char* key, Patterns<std::int64_t>& to) {
    f_.read(key, [&](const Json& v) {
      for (const auto& [pattern, value] : v.object()) to.emplace_back(pattern, value.integer());
    });
  }
  void operator()(const char* key, Patterns<double>& to) {
    f_.read(key, [&](const Json& v) {
      for (const auto& [pattern, value] : v.object()) to.emplace_back(pattern, value.number());
    });
  }
  void operator()(const char* key, TokenIndices& to) {
    f_.read(key, [&](const Json& v) {
      if (v.is_array()) {
        to.emplace_back("", integers(v));
      } else {
        for (const auto& [module, ids] : v.object()) to.emplace_back(module, integers(ids));
      }
    });
  }
  void operator()(const char* key, RowPatterns& to) {
    f_.read(key, [&](const Json& v) {
      for (const auto& [tensor, rows] : v.object()) {
        to.emplace_back(tensor, std::vector<bool>());
        for (const Json& row : rows.array()) to.back().second.push_back(row.boolean());
      }
    });
  }
  template <class V>
  requires requires(const V& v) {
    { v.toggle() } -> std::same_as<Toggle>;
  }
  void operator()(const char* key, V& to) {
    f_.read(key, [&](const Json& v) { to = V(v.is_boolean() ? Toggle(v.boolean()) : Toggle(v.string())); });
  }
  template <class V>
  requires std::same_as<V, std::int64_t> || std::same_as<V, double> || std::same_as<V, bool> || std::same_as<V, std::string> || std::same_as<V, TargetModules>
  void operator()(const char* key, V& to) { f_.read(key, to); }
  template <class V>
  void whole(const char* key, V& to) {
    (*this)(key, to);
  }
  void own(const char* key, std::string& to) { f_.read(key, to); }
  void as_written(const char* key) { f_.keep(key); }
  void keep(const char* key, const char*) { f_.keep(key); }
  void only(const char* key, const char* value) { f_.refuse_unless(key, value); }

 private:
  static std::vector<std::int64_t> integers(const Json& v) {
    std::vector<std::int64_t> all;
    if (!v.is_array()) return {v.integer()};
    for (const Json& item : v.array()) all.push_back(item.integer());
    return all;
  }
  AdapterFields& f_;
};

/// A config's `describe`, writing.
class FieldWriter {
 public:
  explicit FieldWriter(Json& json) : json_(json) {}
  void operator()(const char* key, std::int64_t value) { json_.set(key, Json(value)); }
  void operator()(const char* key, double value) { json_.set(key, Json(value)); }
  void operator()(const char* key, bool value) { json_.set(key, Json(value)); }
  void operator()(const char* key, const std::string& value) { json_.set(key, Json(value)); }
  void operator()(const char* key, const std::optional<std::string>& value) { json_.set(key, value ? Json(*value) : Json()); }
  void operator()(const char* key, const Toggle& value) { json_.set(key, value.name.empty() ? Json(value.on) : Json(value.name)); }
  void operator()(const char* key, const TargetModules& targets) {
    if (targets.empty())
      json_.set(key, Json());
    else if (!targets.is_list())
      json_.set(key, Json(targets.pattern()));
    else
      json_.set(key, list(targets.names()));
  }
  void operator()(const char* key, const std::vector<std::int64_t>& values) { json_.set(key, values.empty() ? Json() : list(values)); }
  void operator()(const char* key, const std::vector<std::string>& values) { json_.set(key, values.empty() ? Json() : list(values)); }
  void operator()(const char* key, const Patterns<std::int64_t>& patterns) {
    Json object = Json::make_object();
    for (const auto& [pattern, value] : patterns) object.set(pattern, Json(value));
    json_.set(key, std::move(object));
  }
  void operator()(const char* key, const Patterns<double>& patterns) {
    Json object = Json::make_object();
    for (const auto& [pattern, value] : patterns) object.set(pattern, Json(value));
    json_.set(key, std::move(object));
  }
  void operator()(const char* key, const TokenIndices& tokens) {
    Json object = tokens.empty() ? Json() : Json::make_object();
    if (tokens.size() == 1 && tokens[0].first.empty())
      object = list(tokens[0].second);
    else
      for (const auto& [module, ids] : tokens) object.set(module, list(ids));
    json_.set(key, std::move(object));
  }
  void operator()(const char* key, const RowPatterns& patterns) {
    Json object = patterns.empty() ? Json() : Json::make_object();
    for (const auto& [tensor, rows] : patterns) {
      Json flags = Json::make_array();
      for (const bool row : rows) flags.push_back(Json(row));
      object.set(tensor, std::move(flags));
    }
    json_.set(key, std::move(object));
  }
  template <class V>
  requires requires(const V& v) {
    { v.toggle() } -> std::same_as<Toggle>;
  }
  void operator()(const char* key, const V& value) { (*this)(key, value.toggle()); }
  // A whole number as PEFT's default is one; it may be a fraction.
  void whole(const char* key, double value) { json_.set(key, number(value)); }
  void whole(const char* key, const Patterns<double>& patterns) {
    Json object = Json::make_object();
    for (const auto& [pattern, value] : patterns) object.set(pattern, number(value));
    json_.set(key, std::move(object));
  }
  void own(const char* key, const std::string& value) {
    if (!value.empty()) json_.set(key, Json(value));
  }
  void as_written(const char*) {}
  void keep(const char* key, const char* value) { only(key, value); }
  void only(const char* key, const char* value) { json_.set(key, Json::parse(value, key)); }

 private:
  static Json number(double value) { return value == std::floor(value) && std::abs(value) < 1e15 ? Json(std::int64_t(value)) : Json(value); }
  template <class V>
  static Json list(const std::vector<V>& values) {
    Json all = Json::make_array();
    for (const V& value : values) all.push_back(Json(value));
    return all;
  }
  Json& json_;
};

PEFT_INLINE std::optional<AnyAdapterConfig> registered(const std::any& config) {
  std::optional<AnyAdapterConfig> found;
  for_each_method([&]<class C>(std::type_identity<C>) {
    if (const C* c = std::any_cast<C>(&config)) found = *c;
  });
  return found;
}

inline bool is_integer(DType type) { return type == DType::u8 || type == DType::i16 || type == DType::i32 || type == DType::i64; }
/// Whole numbers in the type that their file has them in, little-endian.
inline std::vector<std::byte> as_integers(const AdapterTensor& t) {
  const std::int64_t width = bytes_of(t.dtype, 1);
  std::vector<std::byte> bytes(static_cast<std::size_t>(width * t.values.size()));
  for (std::int64_t i = 0; i < t.values.size(); i++) {
    const auto value = static_cast<std::uint64_t>(static_cast<std::int64_t>(t.values[i]));
    for (std::int64_t k = 0; k < width; k++) bytes[static_cast<std::size_t>(i * width + k)] = static_cast<std::byte>(value >> (8 * k) & 255);
  }
  return bytes;
}

PEFT_INLINE void write_adapter(const std::string& directory, const AnyAdapterConfig& config, const std::string& base_model,
                               const std::map<std::string, std::string>& extra, const AdapterTensors& tensors) {
  namespace fs = std::filesystem;
  std::error_code failure;
  fs::create_directories(directory, failure);
  if (failure) throw FormatError(directory, -1, "cannot be created: " + failure.message());
  Json json = Json::make_object();
  std::visit(
      [&]<class C>(const C& c) {
        FieldWriter writer(json);
        C::describe(c, writer);
        json.set("peft_type", Json(C::peft_type));
        json.set("task_type", c.task_type.empty() ? Json() : Json(c.task_type));
      },
      config);
  for (const char* key : {"auto_mapping", "revision"}) json.set(key, Json());
  for (const auto& [key, text] : extra) json.set(key, Json::parse(text, "adapter_config.json"));
  json.set("base_model_name_or_path", base_model.empty() ? Json() : Json(base_model));
  json.set("inference_mode", Json(true));
  json.set("peft_version", Json(peft_format_version));
  std::vector<TensorToWrite> all;
  std::vector<std::vector<std::byte>> integers;
  for (const AdapterTensor& t : tensors) {
    if (is_integer(t.dtype)) {
      integers.push_back(as_integers(t));
      all.push_back({t.name, t.dtype, t.values.shape(), integers.back().data()});
    } else {
      all.push_back({t.name, DType::f32, t.values.shape(), t.values.data()});
    }
  }
  write_safetensors((fs::path(directory) / "adapter_model.safetensors").string(), all, {{"format", "pt"}});
  write_text_atomically((fs::path(directory) / "adapter_config.json").string(), json.dump(2, true));
}

PEFT_INLINE AdapterTensors read_adapter_tensors(const std::string& directory) {
  namespace fs = std::filesystem;
  const std::string path = (fs::path(directory) / "adapter_model.safetensors").string();
  if (!fs::exists(path) && fs::exists(fs::path(directory) / "adapter_model.bin"))
    throw FormatError(directory, -1,
                      "only adapter_model.bin, a Python pickle, is here; load it with PEFT and save_pretrained it again, which writes safetensors");
  const SafetensorsFile file = SafetensorsFile::open(path);
  AdapterTensors tensors;
  for (const auto& entry : file.tensors()) {
    // bias = "all" is every name with "bias" to PEFT: a saved module's are there again by the names of its wrapper, and so are the base's.
    if (entry.name.find(".modules_to_save.") != std::string::npos || entry.name.find(".original_module.") != std::string::npos) continue;
    AdapterTensor t{entry.name, {}, entry.dtype.value_or(DType::f32)};
    if (is_integer(t.dtype)) {
      const auto integers = file.read<std::int32_t>(entry.name);
      t.values = Tensor<float>(entry.shape);
      for (std::int64_t i = 0; i < integers.size(); i++) t.values[i] = float(integers[i]);
    } else {
      t.values = file.read<float>(entry.name);
    }
    tensors.push_back(std::move(t));
  }
  return tensors;
}

PEFT_INLINE bool is_the_same_table(const Tensor<float>& found, const Tensor<float>& base, bool rounded) {
  float largest = 0, off = 0;
  for (std::int64_t i = 0; i < base.size(); i++) largest = std::max(largest, std::abs(base[i])), off = std::max(off, std::abs(found[i] - base[i]));
  return off <= (rounded ? 0.1f : 1e-6f) * largest;
}

PEFT_INLINE bool is_file(const std::string& path) { return std::filesystem::is_regular_file(path); }

PEFT_INLINE void check_adapter_tensors(const std::string& file, const AdapterTensors& found, const std::vector<WantedTensor>& wanted) {
  std::vector<std::string> missing, unexpected, misshapen;
  std::set<std::string> names;
  std::map<std::string, const AdapterTensor*> by_name;
  for (const AdapterTensor& t : found) by_name[t.name] = &t;
  for (const WantedTensor& t : wanted) {
    names.insert(t.name);
    const auto it = by_name.find(t.name);
    if (it == by_name.end())
      missing.push_back(t.name);
    else if (!(it->second->values.shape() == t.shape))
      misshapen.push_back(t.name + " is " + to_string(it->second->values.shape()) + ", this model wants " + to_string(t.shape));
    else if (is_integer(it->second->dtype))
      misshapen.push_back(t.name + " has the type " + std::string(peft::name(it->second->dtype)) + ", and weights are no integers");
  }
  for (const AdapterTensor& t : found)
    if (!names.count(t.name)) unexpected.push_back(t.name);
  if (missing.empty() && unexpected.empty() && misshapen.empty()) return;
  const auto list = [](const std::vector<std::string>& all) {
    std::string text;
    for (std::size_t i = 0; i < all.size() && i < 4; i++) text += (i ? ", " : " (") + all[i];
    return text + (all.empty() ? "" : all.size() > 4 ? ", …)" : ")");
  };
  throw CheckpointError("load_adapter", file + " does not fit: missing " + std::to_string(missing.size()) + " tensors" + list(missing) + ",\n  unexpected " +
                                            std::to_string(unexpected.size()) + list(unexpected) + ", wrong shape " + std::to_string(misshapen.size()) +
                                            list(misshapen) + ". Nothing was loaded.");
}

}  // namespace detail

PEFT_INLINE AdapterFileConfig read_adapter_config(const std::string& directory) {
  const std::string path = (std::filesystem::path(directory) / "adapter_config.json").string();
  if (!std::filesystem::exists(path))
    throw FormatError(path, -1, "no such file; an adapter is a directory with adapter_config.json and adapter_model.safetensors, or a GGUF file");
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
  bool known = false;
  std::vector<std::string> methods;
  for_each_method([&]<class C>(std::type_identity<C>) {
    methods.push_back(C::peft_type);
    if (peft_type != C::peft_type) return;
    known = true;
    C config;
    detail::FieldReader reader(f);
    C::describe(config, reader);
    config.task_type = task_type;
    try {
      validate(config);
    } catch (const ConfigError& error) {
      throw FormatError(path, -1, error.what());
    }
    file.config = std::move(config);
  });
  if (!known) {
    std::sort(methods.begin(), methods.end());
    throw NotSupported("read_adapter_config",
                       path + ": peft_type \"" + peft_type + "\" is not supported" + did_you_mean(peft_type, methods, "supported are", 64));
  }
  file.extra = f.rest();
  return file;
}

}  // namespace peft
