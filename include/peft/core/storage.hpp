// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "peft/core/config.hpp"

namespace peft {

/// Blocks of memory, 64-byte aligned, kept when they are given back: the second step of a training run finds every block that
/// the first one used, so it allocates nothing. Thread-safe.
namespace memory {
struct Block {
  void* data = nullptr;
  std::size_t bytes = 0;  // what the block really holds, at least what was asked for
};
Block take(std::size_t bytes);
void give_back(Block block) noexcept;
/// Returns what is cached and unused to the system.
void release_cache() noexcept;

struct Statistics {
  std::int64_t in_use = 0;        // bytes
  std::int64_t peak = 0;          // bytes, since the last reset_peak()
  std::int64_t cached = 0;        // bytes
  std::int64_t system_calls = 0;  // blocks that had to come from the system
};
Statistics statistics();
void reset_peak();

/// Process-wide, as the operating system counts it; 0 where it does not tell.
std::int64_t peak_resident_bytes();
std::int64_t resident_bytes();
}  // namespace memory

/// For containers that come and go every step: their memory is cached like everything else's.
template <class T>
struct PoolAllocator {
  using value_type = T;
  PoolAllocator() = default;
  template <class U>
  PoolAllocator(const PoolAllocator<U>&) {}
  T* allocate(std::size_t n) {
    // The block's true size must be known again when it is given back, so it stands in front of the data.
    const memory::Block block = memory::take(n * sizeof(T) + 64);
    *static_cast<std::size_t*>(block.data) = block.bytes;
    return reinterpret_cast<T*>(static_cast<std::byte*>(block.data) + 64);
  }
  void deallocate(T* data, std::size_t) noexcept {
    void* start = reinterpret_cast<std::byte*>(data) - 64;
    memory::give_back({start, *static_cast<std::size_t*>(start)});
  }
  template <class U>
  bool operator==(const PoolAllocator<U>&) const {
    return true;
  }
};

/// A counted block, or borrowed memory together with what keeps it alive. One pointer wide.
class Storage {
 public:
  Storage() = default;
  static Storage allocate(std::size_t bytes);
  static Storage borrow(void* data, std::size_t bytes, std::shared_ptr<const void> keep);
  Storage(const Storage& other) noexcept : head_(other.head_) {
    if (head_) head_->holders.fetch_add(1, std::memory_order_relaxed);
  }
  Storage(Storage&& other) noexcept : head_(std::exchange(other.head_, nullptr)) {}
  Storage& operator=(Storage other) noexcept {
    std::swap(head_, other.head_);
    return *this;
  }
  ~Storage() {
    if (head_ && head_->holders.fetch_sub(1, std::memory_order_acq_rel) == 1) free();
  }
  void* data() const { return head_ ? head_->data : nullptr; }
  std::size_t bytes() const { return head_ ? head_->bytes : 0; }
  explicit operator bool() const { return head_ != nullptr; }
  /// True if this handle alone holds the memory and may therefore write into it unseen.
  bool sole_holder() const { return head_ && head_->holders.load(std::memory_order_acquire) == 1 && !head_->keep; }

 private:
  struct Head {
    std::atomic<std::int64_t> holders{1};
    void* data = nullptr;
    std::size_t bytes = 0;
    memory::Block block;
    std::shared_ptr<const void> keep;
  };
  void free() noexcept;
  Head* head_ = nullptr;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/core/impl/storage.inl"
#endif
