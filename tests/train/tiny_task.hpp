// SPDX-License-Identifier: Apache-2.0
// A task that a tiny transformer can learn, and a folder for what a run writes.
#pragma once

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "peft/adapters/lora/lora.hpp"
#include "peft/data/example.hpp"
#include "peft/train/trainer.hpp"
#include "support/tensors.hpp"
#include "support/tiny_transformer.hpp"

namespace peft::testing {

/// Sequences of 3 to 9 tokens, each 3 · the one before + 1 (mod 11). The first `prompt` tokens have no label.
inline Dataset tiny_task(std::size_t n, std::size_t prompt = 1, std::uint64_t seed = 1) {
  Random random(seed);
  std::vector<Example> examples(n);
  for (Example& e : examples) {
    const std::size_t length = 3 + std::size_t(random.below(7));
    for (std::size_t i = 0; i < length; i++) {
      e.input_ids.push_back(i == 0 ? std::int32_t(random.below(11)) : (e.input_ids.back() * 3 + 1) % 11);
      e.labels.push_back(i < prompt ? ignore_index : e.input_ids.back());
    }
  }
  return Dataset(std::move(examples));
}

/// A transformer with a LoRA on every Linear.
template <Scalar T>
struct TunedTiny {
  Transformer<T> base;
  PeftModel<Transformer<T>> tuned;
  explicit TunedTiny(double dropout = 0, std::uint64_t seed = 3, std::int64_t r = 3)
      : base(tiny_transformer<T>({.vocab = 11, .hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .inner = 24})), tuned(base) {
    tuned.add_adapter("a", LoraConfig{.r = r, .lora_alpha = 8, .target_modules = "all-linear", .lora_dropout = dropout}, seed);
  }
  std::vector<Parameter<T>> parameters() const {
    std::vector<Parameter<T>> all;
    tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<T>& p) { all.push_back(p); });
    return all;
  }
  std::vector<Tensor<T>> values() const {
    std::vector<Tensor<T>> all;
    for (const auto& p : parameters()) all.push_back(p.value().clone());
    return all;
  }
};
template <class T>
bool same_bits(const std::vector<Tensor<T>>& a, const std::vector<Tensor<T>>& b) {
  return std::ranges::equal(a, b, [](const Tensor<T>& x, const Tensor<T>& y) { return same_bits(x, y); });
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::random_device random;
    path_ = std::filesystem::temp_directory_path() / ("peft_test_" + std::to_string(random()) + "_" + std::to_string(random()));
    std::filesystem::create_directory(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path() const { return path_.string(); }
  std::string read(const std::string& name) const {
    std::ifstream file(path_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::filesystem::path path_;
};

}  // namespace peft::testing
