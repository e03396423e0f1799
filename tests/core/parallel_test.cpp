// SPDX-License-Identifier: Apache-2.0
#include "peft/core/parallel.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "peft/core/error.hpp"
#include "support/threads.hpp"

using namespace peft;
using peft::testing::Threads;

namespace {
// Sums whose order of additions shows in their last bits: chunks by shape, combined in order.
double sum_of_sines(std::int64_t n) {
  constexpr std::int64_t grain = 100;
  std::vector<double> partial(std::size_t((n + grain - 1) / grain));
  parallel_ranges(n, grain, [&](std::int64_t begin, std::int64_t end) {
    double sum = 0;
    for (std::int64_t i = begin; i < end; i++) sum += std::sin(double(i));
    partial[std::size_t(begin / grain)] = sum;
  });
  return std::accumulate(partial.begin(), partial.end(), 0.0);
}
}  // namespace

TEST_CASE("every chunk runs once, whatever the number of threads", "[core]") {
  for (int threads : {1, 2, 7}) {
    const Threads guard(threads);
    CHECK(num_threads() == threads);
    for (std::int64_t chunks : {0, 1, 2, 7, 1000, 65535, 65536, 140000}) {
      CAPTURE(threads, chunks);
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(chunks));
      parallel_for(chunks, [&](std::int64_t chunk) { runs[std::size_t(chunk)]++; });
      bool once = true;
      for (const auto& count : runs) once = once && count == 1;
      CHECK(once);
    }
  }
}

TEST_CASE("ranges cover [0, n) without overlap", "[core]") {
  for (std::int64_t n : {0, 1, 9, 10, 11, 95}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(n));
    parallel_ranges(n, 10, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; i++) runs[std::size_t(i)]++;
    });
    for (const auto& count : runs) CHECK(count == 1);
  }
}

TEST_CASE("results are the same bits for 1, 2 and 7 threads", "[core]") {
  std::vector<double> sums;
  for (int threads : {1, 2, 7}) {
    const Threads guard(threads);
    for (int again = 0; again < 20; again++) sums.push_back(sum_of_sines(12345));
  }
  for (double sum : sums) CHECK(sum == sums[0]);
}

TEST_CASE("chunks are shared out: a slow one does not hold the others up", "[core]") {
  const Threads guard(2);
  std::atomic<int> done{0};
  std::atomic<bool> waited_for_all{false};
  parallel_for(50, [&](std::int64_t chunk) {
    if (chunk == 0) {  // waits for the other 49, which somebody else must run
      const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
      while (done < 49 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
      waited_for_all = done == 49;
    } else {
      done++;
    }
  });
  CHECK(waited_for_all);
}

TEST_CASE("a region within a region runs inline", "[core]") {
  const Threads guard(2);
  std::vector<std::atomic<int>> runs(64);
  std::atomic<bool> moved{false};
  parallel_for(8, [&](std::int64_t outer) {
    const auto here = std::this_thread::get_id();
    parallel_for(8, [&](std::int64_t inner) {
      runs[std::size_t(outer * 8 + inner)]++;
      if (std::this_thread::get_id() != here) moved = true;
    });
  });
  for (const auto& count : runs) CHECK(count == 1);
  CHECK_FALSE(moved);
  CHECK(sum_of_sines(1000) == sum_of_sines(1000));  // and the pool is free again
}

TEST_CASE("several threads may call at the same time", "[core]") {
  const Threads guard(2);
  const double alone = sum_of_sines(5000);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; t++)
    callers.emplace_back([&] {
      for (int i = 0; i < 200; i++)
        if (sum_of_sines(5000) != alone) wrong++;
    });
  for (auto& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("an exception in a chunk comes out of the region, and the pool goes on", "[core]") {
  for (int threads : {1, 2, 7}) {
    const Threads guard(threads);
    for (int again = 0; again < 20; again++) {
      CHECK_THROWS_WITH(parallel_for(100,
                                     [](std::int64_t chunk) {
                                       if (chunk % 10 == 3) throw std::runtime_error("chunk");
                                     }),
                        "chunk");
      std::atomic<int> runs{0};
      parallel_for(100, [&](std::int64_t) { runs++; });
      CHECK(runs == 100);
    }
  }
}

TEST_CASE("the number of threads may change between regions and while others work", "[core]") {
  const Threads guard(2);
  const double alone = sum_of_sines(3000);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread worker([&] {
    while (!stop)
      if (sum_of_sines(3000) != alone) wrong++;
  });
  for (int i = 0; i < 30; i++) {
    set_num_threads(1 + i % 4);
    if (sum_of_sines(3000) != alone) wrong++;
  }
  stop = true;
  worker.join();
  CHECK(wrong == 0);
  CHECK_THROWS_AS(set_num_threads(0), ConfigError);
  CHECK_THROWS_WITH(set_num_threads(-3), "[set_num_threads] -3 threads; at least 1 is wanted");
}

TEST_CASE("sleeping workers wake up again", "[core]") {
  const Threads guard(2);
  for (int i = 0; i < 5; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    CHECK(sum_of_sines(2000) == sum_of_sines(2000));
  }
}
