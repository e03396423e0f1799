// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "peft/core/error.hpp"

namespace peft {

/// A file that appears whole or not at all: written beside its place under a temporary name, synchronised, renamed. Without commit()
/// nothing is left.
class AtomicFile {
 public:
  /// Throws FormatError with the system's reason.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, std::size_t bytes);
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;
  std::string path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/io/impl/atomic_file.inl"
#endif
