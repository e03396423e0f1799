// SPDX-License-Identifier: Apache-2.0
#include "peft/core/storage.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>
#include <vector>

#include "peft/core/tensor.hpp"

using namespace peft;

namespace {
void step(std::int64_t rows) {
  std::vector<Tensor<float>> kept;
  for (std::int64_t n : {1, 7, 300, 5000}) kept.emplace_back(Shape{rows, n});
  const Tensor<double> late({rows});
}
}  // namespace

TEST_CASE("the second step finds every block that the first one used", "[core]") {
  step(50);
  const auto after_first = memory::statistics();
  for (int i = 0; i < 5; i++) step(50);
  const auto after_all = memory::statistics();
  CHECK(after_all.system_calls == after_first.system_calls);
  CHECK(after_all.in_use == after_first.in_use);
  CHECK(after_all.cached == after_first.cached);
}

TEST_CASE("blocks are aligned and hold what was asked for", "[core]") {
  std::vector<memory::Block> blocks;
  for (const std::size_t bytes : std::initializer_list<std::size_t>{0, 1, 63, 64, 65, 512, 513, 4097, 70000, 1 << 20}) {
    const memory::Block block = memory::take(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(block.data) % 64 == 0);
    CHECK(block.bytes >= std::max<std::size_t>(bytes, 1));
    CHECK(block.bytes <= std::max<std::size_t>(64, bytes + bytes / 4 + 64));  // and little more
    std::memset(block.data, 0x5a, block.bytes);
    blocks.push_back(block);
  }
  for (const memory::Block& block : blocks) memory::give_back(block);
  const Tensor<float> tensor({3});
  CHECK(reinterpret_cast<std::uintptr_t>(tensor.data()) % 64 == 0);
}

TEST_CASE("statistics count what is held, cached and the peak", "[core]") {
  memory::release_cache();
  memory::reset_peak();
  const auto before = memory::statistics();
  CHECK(before.cached == 0);
  CHECK(before.peak == before.in_use);
  {
    const Tensor<float> a({1000, 1000});
    {
      const Tensor<float> b({500, 1000});
      CHECK(memory::statistics().in_use >= before.in_use + 6'000'000);
    }
    const auto now = memory::statistics();
    CHECK(now.in_use >= before.in_use + 4'000'000);
    CHECK(now.in_use < before.in_use + 4'600'000);
    CHECK(now.cached >= 2'000'000);
    CHECK(now.peak >= before.in_use + 6'000'000);
    CHECK(now.system_calls == before.system_calls + 2);
  }
  CHECK(memory::statistics().in_use == before.in_use);
  memory::release_cache();
  CHECK(memory::statistics().cached == 0);
}

TEST_CASE("batches of other lengths do not pile up", "[core]") {
  memory::release_cache();
  for (std::int64_t length = 64; length < 512; length += 7) {
    const Tensor<float> activations({length, 32768});
    // Less than one more of them, or 16 MiB, beside some that are smaller.
    CHECK(memory::statistics().cached <= std::max<std::int64_t>(std::int64_t(activations.size()) * 5, 17 << 20));
  }
  memory::release_cache();
}

TEST_CASE("layers that want several sizes in turn take them from the system once", "[core]") {
  memory::release_cache();
  const auto layer = [] {
    const Tensor<float> hidden({64, 576});
    const Tensor<float> gates({64, 3072});
    const Tensor<float> rotated({64, 800});
  };
  layer();
  const auto before = memory::statistics();
  for (int i = 0; i < 5; i++) layer();
  CHECK(memory::statistics().system_calls == before.system_calls);
  memory::release_cache();
}

TEST_CASE("a slightly smaller tensor takes the block of a large one", "[core]") {
  memory::release_cache();
  { const Tensor<float> large({1000, 1000}); }
  const auto before = memory::statistics();
  { const Tensor<float> smaller({850, 1000}); }
  CHECK(memory::statistics().system_calls == before.system_calls);
  { const Tensor<float> half({500, 1000}); }  // would waste half of it
  CHECK(memory::statistics().system_calls == before.system_calls + 1);
  memory::release_cache();
}

TEST_CASE("containers draw from the cache as well", "[core]") {
  const auto fill = [] {
    std::vector<std::int64_t, PoolAllocator<std::int64_t>> numbers;
    for (int i = 0; i < 1000; i++) numbers.push_back(i);
    const auto shared = std::allocate_shared<std::pair<int, int>>(PoolAllocator<int>(), 1, 2);
    return numbers.back() + shared->second;
  };
  CHECK(fill() == 1001);
  const auto before = memory::statistics();
  CHECK(fill() == 1001);
  const auto after = memory::statistics();
  CHECK(after.system_calls == before.system_calls);
  CHECK(after.in_use == before.in_use);
}

TEST_CASE("blocks may go back on another thread than they came from", "[core]") {
  const auto before = memory::statistics();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++)
    threads.emplace_back([t] {
      Tensor<float> handed;
      for (int i = 0; i < 200; i++) {
        const Tensor<float> fresh(Shape{std::int64_t(i + 1), std::int64_t(t + 3)});
        fresh.fill(float(t));
        handed = fresh.row_range(i, i + 1);
        std::thread([moved = std::move(handed), t]() mutable {
          if (moved[0] != float(t)) std::abort();
          moved = {};
        }).join();
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(memory::statistics().in_use == before.in_use);
}

TEST_CASE("the process has a size", "[core]") {
  CHECK(memory::resident_bytes() > 1 << 20);
  CHECK(memory::peak_resident_bytes() >= memory::resident_bytes() / 2);
}
