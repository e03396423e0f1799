// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/core/parallel.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

namespace peft::detail {

PEFT_INLINE void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One word, the ticket, holds epoch:32 | chunks:16 | next:16. A chunk is claimed by compare-exchange; workers spin for about 100 µs
// between regions and then sleep on the ticket.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this] { work(); });
  }
  ~Pool() {
    stop_.store(true);
    ticket_.fetch_add(std::uint64_t{1} << 32);
    ticket_.notify_all();
    for (auto& worker : workers_) worker.join();
  }
  int threads() const { return int(workers_.size()) + 1; }

  // At most 65,535 chunks. The caller holds the pool's lock.
  void run(std::int64_t chunks, const void* argument, void (*call)(const void*, std::int64_t)) {
    argument_ = argument, call_ = call;
    done_.store(0, std::memory_order_relaxed);
    const std::uint64_t epoch = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
    ticket_.store(epoch << 32 | std::uint64_t(chunks) << 16, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst)) ticket_.notify_all();
    claim();
    for (int spins = 0; done_.load(std::memory_order_acquire) != chunks; spins++) spins < spin_limit ? pause_briefly() : std::this_thread::yield();
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }
  static bool& inside() {
    static thread_local bool value = false;
    return value;
  }

 private:
  static constexpr int spin_limit = 2000;
  static bool open(std::uint64_t ticket) { return (ticket & 0xffff) < (ticket >> 16 & 0xffff); }
  void claim() {
    std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
    while (open(ticket)) {
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
      try {
        call_(argument_, std::int64_t(ticket & 0xffff));
      } catch (...) {
        std::lock_guard lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
      done_.fetch_add(1, std::memory_order_acq_rel);
      ticket = ticket_.load(std::memory_order_acquire);
    }
  }
  void work() {
    inside() = true;
    for (;;) {
      std::uint64_t ticket;
      for (int spins = 0; !open(ticket = ticket_.load(std::memory_order_acquire)) && !stop_.load(std::memory_order_relaxed);) {
        if (spins++ < spin_limit) {
          pause_briefly();
          continue;
        }
        asleep_.fetch_add(1, std::memory_order_seq_cst);
        ticket_.wait(ticket, std::memory_order_seq_cst);
        asleep_.fetch_sub(1, std::memory_order_relaxed);
      }
      if (stop_.load(std::memory_order_relaxed)) return;
      claim();
    }
  }

  std::vector<std::thread> workers_;
  const void* argument_ = nullptr;
  void (*call_)(const void*, std::int64_t) = nullptr;
  std::exception_ptr failure_;
  std::mutex failure_mutex_;
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<std::int64_t> done_{0};
  alignas(64) std::atomic<int> asleep_{0};
};

PEFT_INLINE int default_threads() {
  if (const char* text = std::getenv("PEFT_NUM_THREADS")) {
    const int n = std::atoi(text);
    if (n < 1) throw ConfigError("num_threads", "PEFT_NUM_THREADS=" + std::string(text) + "; a number of at least 1 is wanted");
    return n;
  }
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n ? int(n) : 1;
}

struct Threads {
  std::mutex busy;
  std::unique_ptr<Pool> pool;  // made at first use
  std::atomic<int> wanted{0};  // 0: not yet decided
};

PEFT_INLINE Threads& threads() {
  static Threads instance;
  return instance;
}

PEFT_INLINE void run_chunks(std::int64_t chunks, const void* argument, void (*call)(const void*, std::int64_t)) {
  Threads& all = threads();
  if (chunks > 1 && !Pool::inside() && num_threads() > 1 && all.busy.try_lock()) {
    std::lock_guard lock(all.busy, std::adopt_lock);
    const int wanted = num_threads();
    if (!all.pool || all.pool->threads() != wanted) all.pool.reset(), all.pool = std::make_unique<Pool>(wanted);
    struct Inside {
      Inside() { Pool::inside() = true; }
      ~Inside() { Pool::inside() = false; }
    } inside;
    constexpr std::int64_t most = 0xffff;
    struct Part {
      const void* argument;
      void (*call)(const void*, std::int64_t);
      std::int64_t first;
    };
    for (std::int64_t first = 0; first < chunks; first += most) {
      const Part part{argument, call, first};
      all.pool->run(chunks - first < most ? chunks - first : most, &part, [](const void* p, std::int64_t c) {
        static_cast<const Part*>(p)->call(static_cast<const Part*>(p)->argument, static_cast<const Part*>(p)->first + c);
      });
    }
    return;
  }
  for (std::int64_t c = 0; c < chunks; c++) call(argument, c);
}

}  // namespace peft::detail

namespace peft {

PEFT_INLINE int num_threads() {
  auto& wanted = detail::threads().wanted;
  int n = wanted.load(std::memory_order_relaxed);
  if (n == 0) wanted.store(n = detail::default_threads(), std::memory_order_relaxed);
  return n;
}

PEFT_INLINE void set_num_threads(int n) {
  if (n < 1) throw ConfigError("set_num_threads", std::to_string(n) + " threads; at least 1 is wanted");
  detail::threads().wanted.store(n, std::memory_order_relaxed);
}

}  // namespace peft
