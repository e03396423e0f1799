// SPDX-License-Identifier: Apache-2.0
// From the second step on, a training run takes no memory: not through operator new, not from the system.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <new>

#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "support/threads.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
std::atomic<long> news{0};
void* counted(std::size_t bytes, std::size_t alignment, const std::nothrow_t&) noexcept {
  news++;
  return alignment ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment) : std::malloc(bytes ? bytes : 1);
}
void* counted(std::size_t bytes, std::size_t alignment = 0) {
  if (void* p = counted(bytes, alignment, std::nothrow)) return p;
  throw std::bad_alloc();
}
}  // namespace

// Not inlined: a compiler that sees `free` behind a `new` takes it for a mistake.
#define APART __attribute__((noinline))
void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t& tag) noexcept { return counted(bytes, 0, tag); }
void* operator new[](std::size_t bytes, const std::nothrow_t& tag) noexcept { return counted(bytes, 0, tag); }
void* operator new(std::size_t bytes, std::align_val_t alignment) { return counted(bytes, std::size_t(alignment)); }
void* operator new[](std::size_t bytes, std::align_val_t alignment) { return counted(bytes, std::size_t(alignment)); }
APART void operator delete(void* p) noexcept { std::free(p); }
APART void operator delete[](void* p) noexcept { std::free(p); }
APART void operator delete(void* p, std::size_t) noexcept { std::free(p); }
APART void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
APART void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
APART void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
APART void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
APART void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

TEST_CASE("the counter counts", "[nn]") {
  const long before = news;
  ::operator delete(::operator new(1));
  const long after = news;
  CHECK(after == before + 1);
}

TEST_CASE("the second step of training allocates nothing", "[nn]") {
  const TinyShape shape{.vocab = 60, .hidden = 32, .layers = 3, .heads = 4, .kv_heads = 2, .inner = 48};
  auto base = tiny_transformer<float>(shape);
  PeftModel tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 4, .target_modules = "all-linear", .lora_dropout = 0.1});
  std::vector<Parameter<float>> trained;
  tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<float>& p) { trained.push_back(p); });
  const std::vector<std::int64_t> lengths = {30, 100, 7};
  const auto ids = random_ids(137, shape.vocab), labels = random_labels(137, shape.vocab);
  for (const bool checkpointing : {false, true})
    for (const int threads : {1, 2, 4}) {
      CAPTURE(checkpointing, threads);
      const Threads guard(threads);
      const auto step = [&](std::uint64_t number) {
        Pass<float> pass = tuned.pass(Sequences::of_lengths(lengths), true);
        pass.forward = number, pass.checkpointing = checkpointing;
        const PassScope<float> scope(pass);
        Tape tape;
        const auto& model = tuned.model();
        tape.backward(model.loss(model.hidden_states(ids), labels));
        for (const auto& p : trained) p.zero_grad();
      };
      const auto counts = [&](std::uint64_t number) {
        const long new_before = news;
        const auto before = memory::statistics();
        step(number);
        const auto after = memory::statistics();
        return std::pair(news - new_before, after.system_calls - before.system_calls);
      };
      memory::release_cache();
      const auto first = counts(0);
      CHECK(first.second > 0);  // so that nothing is counted wrongly
      for (const std::uint64_t number : {1u, 2u, 3u}) {
        const auto [by_new, by_system] = counts(number);
        CHECK(by_new == 0);
        CHECK(by_system == 0);
      }
    }
}
