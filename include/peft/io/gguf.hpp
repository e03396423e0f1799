// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "peft/core/dtype.hpp"
#include "peft/core/shape.hpp"
#include "peft/io/mapped_file.hpp"

namespace peft {

/// A metadata value. Accessors throw ConfigError naming the key, what was found and what was wanted. Lists of strings point into the file.
class GgufValue {
 public:
  using Storage =
      std::variant<bool, std::int64_t, std::uint64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>, std::vector<std::string_view>>;
  GgufValue(std::string key, Storage value) : key_(std::move(key)), value_(std::move(value)) {}

  const std::string& key() const { return key_; }
  bool boolean() const;
  std::int64_t integer() const;
  double number() const;
  const std::string& string() const;
  const std::vector<std::int64_t>& integers() const;
  const std::vector<double>& numbers() const;
  const std::vector<std::string_view>& strings() const;
  bool is_list() const { return value_.index() >= 5; }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  const Storage& storage() const { return value_; }

 private:
  [[noreturn]] void wrong(const char* wanted) const;
  std::string key_;
  Storage value_;
};

/// One tensor, where it lies; the shape in PyTorch's order (GGUF lists the contiguous dimension first).
struct GgufTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  const std::byte* data = nullptr;
  std::int64_t bytes = 0;
};

/// A GGUF file of version 2 or 3, little-endian, mapped. Opening reads metadata and the table of tensors and checks all of it: a FormatError
/// names the byte.
class GgufFile {
 public:
  static GgufFile open(const std::string& path);
  const std::string& path() const { return path_; }
  const std::vector<GgufValue>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  /// Null if there is none.
  const GgufValue* find(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;
  /// A key's type and value as they lie in the file; throws ConfigError if there is none.
  std::span<const std::byte> raw(std::string_view key) const;

 private:
  std::string path_;
  std::shared_ptr<const MappedFile> map_;
  std::vector<GgufValue> metadata_;
  std::vector<std::span<const std::byte>> raw_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string, std::size_t> keys_, names_;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/io/impl/gguf.inl"
#endif
