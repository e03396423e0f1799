// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "peft/core/error.hpp"

namespace peft {

/// A file seen as memory, read only. Pages come from the disk when they are touched.
class MappedFile {
 public:
  /// Throws FormatError with the system's reason; directories are refused, an empty file is fine.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::string path_;
};

/// Tells the system that these bytes of a mapped file are not needed soon: what has been read of them is no longer held for this process. They stay
/// readable, from the disk again. Never for other memory, which this would clear.
void give_back_pages(const void* data, std::int64_t bytes);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/io/impl/mapped_file.inl"
#endif
