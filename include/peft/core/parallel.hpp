// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "peft/core/config.hpp"

namespace peft {

/// How many threads the library uses, the caller's included. PEFT_NUM_THREADS, else the number of cores that this process may run on.
int num_threads();
/// Takes effect for the next region. n ≥ 1; throws ConfigError otherwise.
void set_num_threads(int n);

namespace detail {
void run_chunks(std::int64_t chunks, const void* argument, void (*call)(const void*, std::int64_t));
}

/// f(0), …, f(chunks - 1), on the pool, in no particular order; returns when all are done. Which chunks exist must depend on the shape
/// of the work alone, and each must own what it writes: then results are the same bits for any number of threads. Chunks are claimed
/// in ascending order, so a thread that the system does not schedule costs nothing. Within a region, or beside another caller's, runs inline.
template <class F>
void parallel_for(std::int64_t chunks, const F& f) {
  detail::run_chunks(chunks, &f, [](const void* argument, std::int64_t chunk) { (*static_cast<const F*>(argument))(chunk); });
}

/// [0, n) in ranges of `grain`: f(begin, end).
template <class F>
void parallel_ranges(std::int64_t n, std::int64_t grain, const F& f) {
  parallel_for((n + grain - 1) / grain, [&](std::int64_t chunk) { f(chunk * grain, chunk * grain + grain < n ? chunk * grain + grain : n); });
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/core/impl/parallel.inl"
#endif
