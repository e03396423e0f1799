// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>

namespace peft {

/// Philox4x32-10 (Salmon et al. 2011): 128 random bits for any (key, counter), in any order. Dropout draws its mask again in backward
/// from the same counters, and results do not depend on who computes what.
inline std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) {
  std::array<std::uint32_t, 4> c = {std::uint32_t(counter_low), std::uint32_t(counter_low >> 32), std::uint32_t(counter_high),
                                    std::uint32_t(counter_high >> 32)};
  std::uint32_t k0 = std::uint32_t(key), k1 = std::uint32_t(key >> 32);
  for (int round = 0; round < 10; round++) {
    const std::uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
    c = {std::uint32_t(p1 >> 32) ^ c[1] ^ k0, std::uint32_t(p1), std::uint32_t(p0 >> 32) ^ c[3] ^ k1, std::uint32_t(p0)};
    k0 += 0x9E3779B9, k1 += 0xBB67AE85;
  }
  return c;
}

/// Mixes two numbers into a key (SplitMix64's finaliser).
inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t z = a + 0x9E3779B97F4A7C15ull * (b + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

/// A stream of numbers from a seed. Its whole state is (key, position), so that a run can be resumed bit for bit.
class Random {
 public:
  explicit Random(std::uint64_t seed = 0) : key_(mix(seed, 0)) {}
  std::uint32_t bits() {
    const auto place = std::size_t(position_ % 4);
    if (place == 0 || !drawn_) block_ = philox(key_, position_ / 4, 0), drawn_ = true;
    position_++;
    return block_[3 - place];
  }
  std::uint64_t bits64() {
    const std::uint64_t high = bits();  // two statements: operands of one expression are drawn in any order
    return high << 32 | bits();
  }
  /// In [0, 1).
  double uniform() { return double(bits64() >> 11) * 0x1p-53; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// N(0, 1), Box-Muller.
  double normal() {
    const double radius = std::sqrt(-2 * std::log1p(-uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  /// In [0, n), without bias (Lemire).
  std::uint64_t below(std::uint64_t n) {
    for (;;) {
      const auto product = static_cast<unsigned __int128>(bits64()) * n;
      if (const auto low = std::uint64_t(product); low >= n || low >= (0 - n) % n) return std::uint64_t(product >> 64);
    }
  }
  template <class Range>
  void shuffle(Range& range) {
    for (auto i = range.size(); i > 1; i--) std::swap(range[i - 1], range[std::size_t(below(i))]);
  }
  struct State {
    std::uint64_t key = 0, position = 0;
  };
  State state() const { return {key_, position_}; }
  void restore(State state) { key_ = state.key, position_ = state.position, drawn_ = false; }
  Random fork(std::uint64_t stream) const {
    Random r;
    r.key_ = mix(key_, stream + 1);
    return r;
  }

 private:
  std::uint64_t key_ = 0, position_ = 0;
  std::array<std::uint32_t, 4> block_{};
  bool drawn_ = false;  // block_ is the one of position_
};

/// Which elements a dropout drops: element e of a site in one forward, from (seed, forward number, site, call).
struct DropoutKey {
  std::uint64_t key = 0;
  double p = 0;
  /// 1/(1-p) for an element that stays, 0 for one that is dropped.
  template <class T>
  T factor(std::uint64_t row, std::uint64_t column) const {
    const auto r = philox(key, row, column / 4);
    return r[column % 4] * 0x1p-32 >= p ? T(1 / (1 - p)) : T(0);
  }
};

}  // namespace peft
