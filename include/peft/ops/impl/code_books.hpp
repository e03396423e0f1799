// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace peft::ops::detail {

/// What a code of four bits stands for, up to the block's scale.
inline constexpr float iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
/// FP4 E2M1, doubled: the block's scale is halved.
inline constexpr float mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, -0.f, -1, -2, -3, -4, -6, -8, -12};

/// NormalFloat4 (Dettmers et al. 2023, arXiv:2305.14314, appendix E): quantiles of a normal distribution, in units of the block's largest magnitude.
inline constexpr float nf4_values[16] = {-1.0f,
                                         -0.6961928009986877f,
                                         -0.5250730514526367f,
                                         -0.39491748809814453f,
                                         -0.28444138169288635f,
                                         -0.18477343022823334f,
                                         -0.09105003625154495f,
                                         0.0f,
                                         0.07958029955625534f,
                                         0.16093020141124725f,
                                         0.24611230194568634f,
                                         0.33791524171829224f,
                                         0.44070982933044434f,
                                         0.5626170039176941f,
                                         0.7229568362236023f,
                                         1.0f};

/// The dynamic tree of eight bits (Dettmers 2015, arXiv:1511.04561), ascending: ±10^(i-6) times the middles of the 2^i parts of 0.1 … 1, i = 0 … 6, and
/// 0 and 1.
constexpr std::array<float, 256> make_dynamic_values() {
  constexpr double powers[7] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1};
  std::array<float, 256> values{};
  values[255] = 1;
  std::size_t j = 0;
  for (std::size_t i = 0; i < 7; i++)
    for (std::size_t k = 0; k < std::size_t(1) << i; k++, j++) {
      values[128 + j] = float(powers[i] * (0.1 + 0.9 * (double(k) + 0.5) / double(std::size_t(1) << i)));
      values[126 - j] = -values[128 + j];
    }
  return values;
}
inline constexpr std::array<float, 256> dynamic_values = make_dynamic_values();

/// A row of NF4 begins with a block of constants: the tensor's mean scale (float32), the place of the row's first block among the 256 that share a second scale
/// (8 bits), and the second scales of the row (float32), seven at most. A block: the code of its scale, then two codes a byte, as in Q4_0 for each 32.
struct Nf4 {
  static constexpr std::int64_t block = 64, bytes = 33, group = 256, longest_row = 1536 * block;
  static constexpr std::size_t place_at = 4, scales_at = 5;
};

}  // namespace peft::ops::detail
