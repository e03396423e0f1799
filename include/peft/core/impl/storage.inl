// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "peft/core/storage.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#include <unistd.h>
#endif

// What lies in the cache belongs to nobody: the address sanitizer is told so, or it would see no use of it.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PEFT_ADDRESS_SANITIZER
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define PEFT_ADDRESS_SANITIZER
#endif
#if defined(PEFT_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes) (static_cast<void>(data), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) (static_cast<void>(data), static_cast<void>(bytes))
#endif

namespace peft::memory {
namespace detail {

// Free blocks by size class. Small blocks (to 64 KiB) are rounded to eight classes an octave and kept for ever; a large one is
// handed out for anything down to four fifths of its size. Before a new large block would make the whole larger than the most that was ever
// in use at once, and a little, the unused ones go back to the system, so that batches of different lengths do not pile up. Below that
// nothing goes back: what a step gave up the next one wants again, and pages that come anew each time cost a tenth of it.
class Cache {
 public:
  Block take(std::size_t wanted) {
    const std::size_t bytes = round_up(wanted);
    std::lock_guard lock(mutex_);
    const bool small = bytes <= small_limit;
    auto found = free_.lower_bound(bytes);
    while (found != free_.end() && found->second.empty()) ++found;
    if (found != free_.end() && found->first <= (small ? bytes : bytes + bytes / 4)) {
      Block block = found->second.back();
      found->second.pop_back();
      statistics_.cached -= std::int64_t(block.bytes);
      return used(block);
    }
    if (!small && statistics_.in_use + statistics_.cached + std::int64_t(bytes) > most_ + most_ / 16 + spare) release_large();
    void* data = std::aligned_alloc(64, bytes);
    if (!data) {
      release_large();
      if (!(data = std::aligned_alloc(64, bytes))) throw std::bad_alloc();
    }
    statistics_.system_calls++;
    return used({data, bytes});
  }
  void give_back(Block block) noexcept {
    std::lock_guard lock(mutex_);
    statistics_.in_use -= std::int64_t(block.bytes);
    try {
      free_[block.bytes].push_back(block);
      statistics_.cached += std::int64_t(block.bytes);
      ASAN_POISON_MEMORY_REGION(block.data, block.bytes);
    } catch (...) {
      std::free(block.data);
    }
  }
  void release() noexcept {
    std::lock_guard lock(mutex_);
    for (auto& [bytes, blocks] : free_) release(blocks);
    most_ = statistics_.in_use;
  }
  Statistics statistics() {
    std::lock_guard lock(mutex_);
    return statistics_;
  }
  void reset_peak() {
    std::lock_guard lock(mutex_);
    statistics_.peak = statistics_.in_use;
  }

 private:
  static constexpr std::size_t small_limit = 64 << 10;
  static constexpr std::int64_t spare = 16 << 20;
  static std::size_t round_up(std::size_t bytes) {
    if (bytes <= 512) return (bytes + 63) / 64 * 64 + (bytes == 0) * 64;
    std::size_t step = 64;
    while (step * 16 < bytes) step *= 2;
    return (bytes + step - 1) / step * step;
  }
  Block used(Block block) {
    ASAN_UNPOISON_MEMORY_REGION(block.data, block.bytes);
    statistics_.in_use += std::int64_t(block.bytes);
    statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
    most_ = std::max(most_, statistics_.in_use);
    return block;
  }
  void release_large() noexcept {
    for (auto& [bytes, blocks] : free_)
      if (bytes > small_limit) release(blocks);
  }
  void release(std::vector<Block>& blocks) noexcept {
    for (Block& block : blocks) std::free(block.data), statistics_.cached -= std::int64_t(block.bytes);
    blocks.clear();
  }
  std::mutex mutex_;
  std::map<std::size_t, std::vector<Block>> free_;
  Statistics statistics_;
  std::int64_t most_ = 0;  // bytes in use, since the cache was emptied
};

// Never destroyed: tensors in static storage may outlive it otherwise.
PEFT_INLINE Cache& cache() {
  static Cache* const instance = new Cache;
  return *instance;
}

}  // namespace detail

PEFT_INLINE Block take(std::size_t bytes) { return detail::cache().take(bytes); }
PEFT_INLINE void give_back(Block block) noexcept { detail::cache().give_back(block); }
PEFT_INLINE void release_cache() noexcept { detail::cache().release(); }
PEFT_INLINE Statistics statistics() { return detail::cache().statistics(); }
PEFT_INLINE void reset_peak() { detail::cache().reset_peak(); }

PEFT_INLINE std::int64_t peak_resident_bytes() {
#if defined(__APPLE__)
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? std::int64_t(usage.ru_maxrss) : 0;
#elif defined(__unix__)
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? std::int64_t(usage.ru_maxrss) * 1024 : 0;
#else
  return 0;
#endif
}

PEFT_INLINE std::int64_t resident_bytes() {
#if defined(__linux__)
  long total = 0, resident = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &total, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return std::int64_t(resident) * sysconf(_SC_PAGESIZE);
#else
  return peak_resident_bytes();
#endif
}

}  // namespace peft::memory

namespace peft {

PEFT_INLINE Storage Storage::allocate(std::size_t bytes) {
  // Head and data share one block, the data starting at the next 64 bytes.
  constexpr std::size_t head_bytes = (sizeof(Head) + 63) / 64 * 64;
  memory::Block block = memory::take(head_bytes + bytes);
  ASAN_POISON_MEMORY_REGION(static_cast<std::byte*>(block.data) + head_bytes + bytes, block.bytes - head_bytes - bytes);
  Storage storage;
  storage.head_ = new (block.data) Head;
  storage.head_->data = static_cast<std::byte*>(block.data) + head_bytes;
  storage.head_->bytes = bytes;
  storage.head_->block = block;
  return storage;
}

PEFT_INLINE Storage Storage::borrow(void* data, std::size_t bytes, std::shared_ptr<const void> keep) {
  Storage storage = allocate(0);
  storage.head_->data = data, storage.head_->bytes = bytes;
  storage.head_->keep = keep ? std::move(keep) : std::shared_ptr<const void>(std::shared_ptr<void>(), data);
  return storage;
}

PEFT_INLINE void Storage::free() noexcept {
  const memory::Block block = head_->block;
  head_->~Head();
  memory::give_back(block);
}

}  // namespace peft
