// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <type_traits>

#include "peft/io/atomic_file.hpp"
#include "peft/io/impl/convert.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"

namespace peft {

namespace detail {

struct SafetensorsType {
  const char* name;
  std::int64_t bits;
  std::optional<DType> dtype;
};
// In the reference's order, which is the order of alignment: the writer sorts by it.
inline constexpr std::array<SafetensorsType, 22> safetensors_types = {
    {{"BOOL", 8, DType::boolean}, {"F4", 4, {}},           {"F6_E2M3", 6, {}},      {"F6_E3M2", 6, {}},      {"U8", 8, DType::u8},
     {"I8", 8, DType::i8},        {"F8_E5M2", 8, {}},      {"F8_E4M3", 8, {}},      {"F8_E8M0", 8, {}},      {"F8_E4M3FNUZ", 8, {}},
     {"F8_E5M2FNUZ", 8, {}},      {"I16", 16, DType::i16}, {"U16", 16, DType::u16}, {"F16", 16, DType::f16}, {"BF16", 16, DType::bf16},
     {"I32", 32, DType::i32},     {"U32", 32, DType::u32}, {"F32", 32, DType::f32}, {"C64", 64, {}},         {"F64", 64, DType::f64},
     {"I64", 64, DType::i64},     {"U64", 64, DType::u64}}};

template <class F>
auto in_header(const std::string& path, const std::string& tensor, F f) {
  try {
    return f();
  } catch (const FormatError&) {
    throw;
  } catch (const Error& error) {
    throw FormatError(path, 8, "header: tensor \"" + tensor + "\": " + error.what());
  }
}

}  // namespace detail

PEFT_INLINE SafetensorsFile SafetensorsFile::open(const std::string& path) {
  const auto map = MappedFile::open(path);
  const std::size_t size = map->size();
  const auto fail = [&](std::int64_t byte, const std::string& reason) { throw FormatError(path, byte, reason); };
  if (size < 8) fail(std::int64_t(size), "a safetensors file begins with eight bytes of header length, this one ends after " + std::to_string(size));
  std::uint64_t length;
  std::memcpy(&length, map->data(), 8);
  if (length > 100'000'000) fail(0, "a header of " + std::to_string(length) + " bytes; at most 100,000,000 are allowed");
  if (length > size - 8) fail(0, "a header of " + std::to_string(length) + " bytes in a file of " + std::to_string(size));
  const std::string_view text(reinterpret_cast<const char*>(map->data()) + 8, length);
  if (text.empty() || text[0] != '{') fail(8, "the header is no JSON object");
  Json header;
  try {
    header = Json::parse(text, path);
  } catch (const FormatError& error) {
    throw FormatError(path, error.byte() < 0 ? -1 : 8 + error.byte(), "header: " + error.reason());
  }

  SafetensorsFile file;
  file.path_ = path;
  const std::byte* data = map->data() + 8 + length;
  const std::uint64_t available = size - 8 - length;
  struct Span {
    std::uint64_t begin, end;
    std::size_t index;
  };
  std::vector<Span> spans;
  for (const Json::Member& member : header.object()) {
    const std::string& name = member.first;
    const Json& entry = member.second;
    if (name == "__metadata__") {
      detail::in_header(path, name, [&] {
        for (const auto& [key, value] : entry.object()) file.metadata_[key] = value.string();
        return 0;
      });
      continue;
    }
    detail::in_header(path, name, [&] {
      SafetensorsEntry e;
      e.name = name, e.path = path, e.keep = map;
      e.dtype_name = entry.at("dtype").string();
      const auto type = std::ranges::find_if(detail::safetensors_types, [&](const auto& t) { return e.dtype_name == t.name; });
      if (type == detail::safetensors_types.end()) {
        std::vector<std::string> names;
        for (const auto& t : detail::safetensors_types) names.emplace_back(t.name);
        throw ConfigError("safetensors", "the type " + e.dtype_name + " is not known" + did_you_mean(e.dtype_name, names, "known are", 21));
      }
      e.dtype = type->dtype;
      std::vector<std::int64_t> sizes;
      std::uint64_t elements = 1, bits = 0;
      for (const Json& size_json : entry.at("shape").array()) {
        const std::int64_t n = size_json.integer();
        if (n < 0) throw ConfigError("safetensors", "a dimension of " + std::to_string(n));
        if (__builtin_mul_overflow(elements, std::uint64_t(n), &elements)) throw ConfigError("safetensors", "the number of elements overflows 64 bits");
        sizes.push_back(n);
      }
      if (__builtin_mul_overflow(elements, std::uint64_t(type->bits), &bits)) throw ConfigError("safetensors", "the size in bits overflows 64 bits");
      e.shape = Shape(sizes);
      const auto& offsets = entry.at("data_offsets").array();
      if (offsets.size() != 2) throw ConfigError("safetensors", "data_offsets has " + std::to_string(offsets.size()) + " numbers, two are wanted");
      const std::int64_t begin = offsets[0].integer(), end = offsets[1].integer();
      if (begin < 0 || end < begin) throw ConfigError("safetensors", "data_offsets " + std::to_string(begin) + ".." + std::to_string(end));
      if (bits % 8 || std::uint64_t(end - begin) != bits / 8)
        throw ConfigError("safetensors", std::to_string(end - begin) + " bytes for the shape " + to_string(e.shape) + " of " + e.dtype_name + ", which takes " +
                                             std::to_string(bits / 8));
      if (std::uint64_t(end) > available)
        throw ConfigError("safetensors", "data to byte " + std::to_string(end) + ", the file holds " + std::to_string(available));
      e.data = data + begin, e.bytes = end - begin;
      spans.push_back({std::uint64_t(begin), std::uint64_t(end), file.tensors_.size()});
      file.tensors_.push_back(std::move(e));
      return 0;
    });
  }
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t expected = 0;
  for (const Span& span : spans) {
    if (span.begin != expected)
      fail(std::int64_t(8 + length + span.begin), "tensor \"" + file.tensors_[span.index].name + "\" begins at " + std::to_string(span.begin) +
                                                      " of the data, the one before it ends at " + std::to_string(expected));
    expected = span.end;
  }
  if (expected != available) fail(std::int64_t(8 + length + expected), std::to_string(available - expected) + " bytes behind the last tensor");
  for (std::size_t i = 0; i < file.tensors_.size(); i++) file.by_name_.emplace(file.tensors_[i].name, i);
  return file;
}

PEFT_INLINE const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

template <class T>
Tensor<T> SafetensorsFile::read(std::string_view name) const {
  const SafetensorsEntry* e = find(name);
  if (!e) {
    std::vector<std::string> names;
    for (const auto& t : tensors_) names.push_back(t.name);
    throw FormatError(path_, -1, "there is no tensor \"" + std::string(name) + "\"" + did_you_mean(name, names, "tensors here"));
  }
  const auto refuse = [&] {
    throw FormatError(path_, -1,
                      "tensor \"" + e->name + "\" has the type " + e->dtype_name + ", which is not read as " +
                          (std::is_floating_point_v<T> ? "a real number" : "an integer"));
  };
  if (!e->dtype || info(*e->dtype).floating != std::is_floating_point_v<T>) refuse();
  Tensor<T> to(e->shape);
  const std::int64_t n = e->shape.size();
  if (const std::int64_t done = *detail::convert(to.data(), *e->dtype, e->data, n); done < n)
    throw FormatError(
        path_, -1,
        "tensor \"" + e->name + "\": element " + std::to_string(done) + " is an integer that " + std::to_string(8 * sizeof(T)) + " bits do not hold");
  return to;
}

PEFT_INLINE SafetensorsDirectory SafetensorsDirectory::open(const std::string& directory) {
  namespace fs = std::filesystem;
  SafetensorsDirectory all;
  const fs::path single = fs::path(directory) / "model.safetensors", index = fs::path(directory) / "model.safetensors.index.json";
  const auto add = [&](const SafetensorsEntry& entry) {
    if (!all.by_name_.emplace(entry.name, all.tensors_.size()).second)
      throw FormatError(entry.path, -1, "tensor \"" + entry.name + "\" stands in another shard, too");
    all.tensors_.push_back(entry);
  };
  if (!fs::exists(single) && fs::exists(index)) {  // transformers prefers the single file, too: old shards may lie beside a new one
    const std::string path = index.string();
    const Json json = Json::read(path);
    const Json* map = json.get("weight_map");
    if (!map || !map->is_object()) throw FormatError(path, -1, "weight_map is missing or no object: it says which file holds each tensor");
    std::map<std::string, std::vector<std::string>> shards;
    for (const auto& [name, file] : map->object()) {
      if (!file.is_string()) throw FormatError(path, -1, "weight_map: \"" + name + "\" is no file name");
      const std::string& shard = file.string();
      if (shard.empty() || shard == "." || shard == ".." || shard.find_first_of("/\\") != std::string::npos || shard.find('\0') != std::string::npos)
        throw FormatError(path, -1, "weight_map: \"" + shard + "\" is no plain file name in this directory");
      shards[shard].push_back(name);
    }
    std::string missing;
    for (const auto& [shard, names] : shards)
      if (!fs::exists(fs::path(directory) / shard)) missing += (missing.empty() ? "" : ", ") + shard;
    if (!missing.empty()) throw FormatError(path, -1, "shards that are not there: " + missing);
    for (const auto& [shard, names] : shards) {
      const auto file = SafetensorsFile::open((fs::path(directory) / shard).string());
      for (const std::string& name : names) {
        const auto* entry = file.find(name);
        if (!entry) throw FormatError(path, -1, "weight_map: tensor \"" + name + "\" is not in " + shard);
        add(*entry);
      }
    }
    return all;
  }
  if (!fs::exists(single)) throw FormatError(directory, -1, "no weights: neither model.safetensors nor model.safetensors.index.json is here");
  const auto file = SafetensorsFile::open(single.string());
  for (const auto& entry : file.tensors()) add(entry);
  return all;
}

PEFT_INLINE const SafetensorsEntry* SafetensorsDirectory::find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

PEFT_INLINE void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors, const std::map<std::string, std::string>& metadata) {
  const auto rank = [](DType type) {
    for (std::size_t i = 0; i < detail::safetensors_types.size(); i++)
      if (detail::safetensors_types[i].dtype == type) return std::ptrdiff_t(i);
    return std::ptrdiff_t(-1);
  };
  for (const auto& t : tensors)
    if (rank(t.dtype) < 0) throw FormatError(path, -1, "tensor \"" + t.name + "\": safetensors has no type " + std::string(name(t.dtype)));
  std::sort(tensors.begin(), tensors.end(), [&](const auto& a, const auto& b) {
    return std::pair(-rank(a.dtype), std::string_view(a.name)) < std::pair(-rank(b.dtype), std::string_view(b.name));
  });
  std::int64_t offset = 0;
  std::vector<std::string> names;
  const auto quoted = [](const std::string& s) { return Json(s).dump(-1, false, false); };
  std::string text = "{";  // without spaces between tokens, as the reference writes it
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    bool first = true;
    for (const auto& [key, value] : metadata) text += (first ? "" : ",") + quoted(key) + ":" + quoted(value), first = false;
    text += "}";
  }
  for (const auto& t : tensors) {
    if (std::find(names.begin(), names.end(), t.name) != names.end()) throw FormatError(path, -1, "two tensors are named \"" + t.name + "\"");
    names.push_back(t.name);
    const std::int64_t bytes = bytes_of(t.dtype, t.shape.size());
    if (text.size() > 1) text += ",";
    text += quoted(t.name) + ":{\"dtype\":\"" + std::string(name(t.dtype)) + "\",\"shape\":[";
    for (int i = 0; i < t.shape.rank(); i++) text += (i ? "," : "") + std::to_string(t.shape[i]);
    text += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + bytes) + "]}";
    offset += bytes;
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  AtomicFile file(path);
  const std::uint64_t length = text.size();
  file.write(&length, 8);
  file.write(text.data(), text.size());
  for (const auto& t : tensors) {
    const std::int64_t bytes = bytes_of(t.dtype, t.shape.size());
    if (!t.stream) {
      file.write(t.data, std::size_t(bytes));
      continue;
    }
    std::int64_t written = 0;
    t.stream([&](const void* piece, std::size_t n) { file.write(piece, n), written += std::int64_t(n); });
    if (written != bytes)
      throw FormatError(path, -1, "tensor \"" + t.name + "\" takes " + std::to_string(bytes) + " bytes, its stream gave " + std::to_string(written));
  }
  file.commit();
}

PEFT_INLINE void write_safetensors_directory(const std::string& directory, std::vector<TensorToWrite> tensors, std::int64_t max_shard_bytes) {
  namespace fs = std::filesystem;
  std::error_code failure;
  fs::create_directories(directory, failure);
  if (failure) throw FormatError(directory, -1, "cannot be created: " + failure.message());
  const fs::path single = fs::path(directory) / "model.safetensors";
  std::vector<std::vector<TensorToWrite>> shards;
  std::int64_t total = 0, elements = 0, room = 0;
  for (TensorToWrite& t : tensors) {
    const std::int64_t bytes = bytes_of(t.dtype, t.shape.size());
    if (shards.empty() || (bytes > room && !shards.back().empty())) shards.emplace_back(), room = max_shard_bytes;
    room -= bytes, total += bytes, elements += t.shape.size();
    shards.back().push_back(std::move(t));
  }
  if (shards.size() <= 1) return write_safetensors(single.string(), shards.empty() ? std::vector<TensorToWrite>() : std::move(shards[0]));
  Json metadata = Json::make_object(), weight_map = Json::make_object(), index = Json::make_object();
  metadata.set("total_parameters", Json(elements)), metadata.set("total_size", Json(total));
  const auto padded = [](std::size_t n) {
    const std::string digits = std::to_string(n);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  std::map<std::string, std::string> file_of;
  for (std::size_t i = 0; i < shards.size(); i++) {
    const std::string name = "model-" + padded(i + 1) + "-of-" + padded(shards.size()) + ".safetensors";
    for (const TensorToWrite& t : shards[i])
      if (!file_of.emplace(t.name, name).second) throw FormatError(directory, -1, "two tensors are named \"" + t.name + "\"");
  }
  for (const auto& [tensor, file] : file_of) weight_map.set(tensor, Json(file));
  index.set("metadata", std::move(metadata)), index.set("weight_map", std::move(weight_map));
  for (std::vector<TensorToWrite>& shard : shards) {
    const std::string path = (fs::path(directory) / file_of.at(shard[0].name)).string();
    write_safetensors(path, std::move(shard));
  }
  write_text_atomically(single.string() + ".index.json", index.dump(2, true) + "\n");
  fs::remove(single, failure);  // readers prefer it
  if (failure) throw FormatError(single.string(), -1, "hides the shards beside it and cannot be removed: " + failure.message());
}

}  // namespace peft
