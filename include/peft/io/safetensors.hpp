// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "peft/core/tensor.hpp"
#include "peft/io/mapped_file.hpp"

namespace peft {

/// One tensor of a safetensors file, where it lies. dtype is empty for types that exist there and not here (F8_E4M3, C64, …).
struct SafetensorsEntry {
  std::string name, dtype_name;
  std::optional<DType> dtype;
  Shape shape;
  const std::byte* data = nullptr;
  std::int64_t bytes = 0;
  std::string path;                  // of the file
  std::shared_ptr<const void> keep;  // the mapping
};

/// A safetensors file, mapped. Opening it reads the header and makes every check of the reference reader (and refuses names that occur
/// twice): a FormatError names the byte. No tensor is read.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::string& path);
  const std::vector<SafetensorsEntry>& tensors() const { return tensors_; }
  /// Null if there is none.
  const SafetensorsEntry* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// A copy, converted: real numbers to float or double (rounded where that is narrower), integers and truth values to std::int64_t or
  /// std::int32_t. Throws FormatError for a missing name, another kind of type, and an integer that does not fit.
  template <class T>
  Tensor<T> read(std::string_view name) const;

 private:
  std::string path_;
  std::vector<SafetensorsEntry> tensors_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

/// All tensors of a Hugging Face directory: model.safetensors, or if there is none the shards that model.safetensors.index.json names (plain file names in the
/// same directory; all that are missing are named at once).
class SafetensorsDirectory {
 public:
  static SafetensorsDirectory open(const std::string& directory);
  const std::vector<SafetensorsEntry>& tensors() const { return tensors_; }
  const SafetensorsEntry* find(std::string_view name) const;

 private:
  std::vector<SafetensorsEntry> tensors_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

struct TensorToWrite {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  const void* data = nullptr;
  /// Instead of data, for what need not be in memory as a whole: gives its bytes to `write`, in order and in pieces, when it is this tensor's turn.
  std::function<void(const std::function<void(const void* piece, std::size_t bytes)>& write)> stream = {};
};

/// Writes a file as the reference does, byte for byte: tensors by alignment of their type and then by name, the header padded to eight.
/// Atomic. Throws FormatError for a name that occurs twice, a type that the format lacks, or a stream of another length than its tensor.
void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors, const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

/// Writes DIR/model.safetensors; of more than `max_shard_bytes`, in the order of `tensors`, shards of at most so many (or of one tensor) and their index, as
/// transformers does, and then removes a model.safetensors that would hide them.
void write_safetensors_directory(const std::string& directory, std::vector<TensorToWrite> tensors, std::int64_t max_shard_bytes = 5'000'000'000);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/io/impl/safetensors.inl"
#endif
