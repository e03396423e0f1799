// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "peft/core/dtype.hpp"
#include "peft/core/shape.hpp"
#include "peft/io/gguf.hpp"

namespace peft {

/// One tensor of a GGUF file to come; the shape in PyTorch's order. Its bytes are asked for when they are written, so that one tensor at a time is
/// in memory.
struct GgufTensorToWrite {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::function<std::vector<std::byte>()> bytes;
};

/// Writes GGUF version 3, little-endian, aligned to 32. Metadata stand in the order in which they were given; a key that is given again replaces.
class GgufFileWriter {
 public:
  void text(const std::string& key, const std::string& value);
  void u32(const std::string& key, std::int64_t value);  // throws ConfigError for what does not fit
  void f32(const std::string& key, double value);
  void boolean(const std::string& key, bool value);
  void texts(const std::string& key, const std::vector<std::string>& values);
  void f32s(const std::string& key, const std::vector<float>& values);
  void i32s(const std::string& key, const std::vector<std::int32_t>& values);
  /// A key of another file, bit for bit.
  void copy(const GgufFile& from, const std::string& key);

  /// Atomic. Throws FormatError for a name that occurs twice or has more than 63 bytes (llama.cpp's limit), for a type that the format lacks, and for
  /// rows that are not whole blocks.
  void write(const std::string& path, const std::vector<GgufTensorToWrite>& tensors) const;

 private:
  void set(const std::string& key, std::int32_t type, const void* value, std::size_t bytes);
  std::vector<std::pair<std::string, std::string>> metadata_;  // key, type and value as they stand in the file
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/io/impl/gguf_writer.inl"
#endif
