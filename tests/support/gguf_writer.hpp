// SPDX-License-Identifier: Apache-2.0
// GGUF files, written field by field, so that a test can also write what no writer would.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "support/files.hpp"

namespace peft::testing {

class GgufWriter {
 public:
  enum Type : std::int32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

  std::uint32_t version = 3;
  std::size_t alignment = 32;

  static std::string text(std::string_view value) { return bytes(std::uint64_t(value.size())) + std::string(value); }

  /// A key with the bytes of its value.
  GgufWriter& raw(std::string_view key, std::int32_t type, std::string_view value) {
    keys_ += text(key) + bytes(type) + std::string(value), key_count_++;
    return *this;
  }
  GgufWriter& add(std::string_view key, std::uint32_t value) { return raw(key, u32, bytes(value)); }
  GgufWriter& add(std::string_view key, float value) { return raw(key, f32, bytes(value)); }
  GgufWriter& add(std::string_view key, std::string_view value) { return raw(key, string, text(value)); }
  /// A list of `type` with the bytes of its elements.
  GgufWriter& list(std::string_view key, std::int32_t type, std::uint64_t count, std::string_view elements) {
    return raw(key, array, bytes(type) + bytes(count) + std::string(elements));
  }

  /// `ne` as GGUF has it: the contiguous dimension first. The data go behind those of the tensor before.
  GgufWriter& tensor(std::string_view name, std::initializer_list<std::int64_t> ne, std::int32_t type, std::string_view values) {
    return tensor(name, ne, type, values, data_.size());
  }
  GgufWriter& tensor(std::string_view name, std::initializer_list<std::int64_t> ne, std::int32_t type, std::string_view values, std::uint64_t offset) {
    table_ += text(name) + bytes(std::uint32_t(ne.size()));
    for (const std::int64_t n : ne) table_ += bytes(n);
    table_ += bytes(type) + bytes(offset), tensor_count_++;
    data_ += values;
    pad(data_);
    return *this;
  }

  /// Magic, version, counts, keys and table; without the padding behind.
  std::string header() const { return "GGUF" + bytes(version) + bytes(tensor_count_) + bytes(key_count_) + keys_ + table_; }
  std::string file() const {
    std::string all = header();
    pad(all);
    return all + data_;
  }

 private:
  void pad(std::string& to) const { to.resize((to.size() + alignment - 1) / alignment * alignment); }
  std::string keys_, table_, data_;
  std::uint64_t key_count_ = 0, tensor_count_ = 0;
};

}  // namespace peft::testing
