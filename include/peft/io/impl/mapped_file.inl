// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "peft/io/mapped_file.hpp"

namespace peft {

PEFT_INLINE std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  const auto fail = [&](const char* what) { throw FormatError(path, -1, std::string(what) + ": " + std::strerror(errno)); };
  // Without O_NONBLOCK a pipe that nobody writes to would be waited for, before it can be refused.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail("cannot be opened");
  struct Close {
    int descriptor;
    ~Close() { ::close(descriptor); }
  } close{descriptor};
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail("cannot be examined");
  if (!S_ISREG(status.st_mode)) throw FormatError(path, -1, S_ISDIR(status.st_mode) ? "is a directory, a file is wanted" : "is no regular file");
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path, file->size_ = std::size_t(status.st_size);
  if (file->size_ > 0) {
    void* memory = ::mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (memory == MAP_FAILED) {
      file->size_ = 0;
      fail("cannot be mapped");
    }
    file->data_ = static_cast<const std::byte*>(memory);
  }
  return file;
}

PEFT_INLINE MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

PEFT_INLINE void give_back_pages(const void* data, std::int64_t bytes) {
  const auto page = std::uintptr_t(::sysconf(_SC_PAGESIZE)), start = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t first = (start + page - 1) / page * page, last = (start + std::uintptr_t(bytes)) / page * page;  // whole pages: neighbours keep theirs
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace peft
