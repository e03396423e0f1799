// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstring>

#include "peft/core/error.hpp"
#include "peft/train/frozen_states.hpp"

namespace peft::detail {

PEFT_INLINE Heap::Heap(const std::string& directory) : directory_(directory) {
  if (directory.empty()) return;
  const std::string path = directory + "/frozen-states.tmp";
  file_.reset(std::fopen(path.c_str(), "w+b"));
  if (!file_) throw FormatError(path, -1, std::string("cannot be written: ") + std::strerror(errno));
  std::remove(path.c_str());
}
PEFT_INLINE std::int64_t Heap::append(const void* data, std::int64_t bytes) {
  const std::int64_t at = size_;
  if (!file_)
    memory_.insert(memory_.end(), static_cast<const std::byte*>(data), static_cast<const std::byte*>(data) + bytes);
  else if (fseeko(file_.get(), at, SEEK_SET) != 0 || std::fwrite(data, 1, std::size_t(bytes), file_.get()) != std::size_t(bytes))
    throw FormatError(directory_, -1, std::string("the states of frozen layers cannot be kept here: ") + std::strerror(errno));
  size_ += bytes;
  return at;
}
PEFT_INLINE void Heap::read(void* to, std::int64_t at, std::int64_t bytes) const {
  if (!file_)
    std::memcpy(to, memory_.data() + at, std::size_t(bytes));
  else if (fseeko(file_.get(), at, SEEK_SET) != 0 || std::fread(to, 1, std::size_t(bytes), file_.get()) != std::size_t(bytes))
    throw FormatError(directory_, -1, std::string("the states of frozen layers cannot be read back: ") + std::strerror(errno));
}

}  // namespace peft::detail
