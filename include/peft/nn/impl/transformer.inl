// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <numbers>

#include "peft/nn/transformer.hpp"

namespace peft {

PEFT_INLINE std::vector<double> rope_frequencies(const RopeConfig& config, std::int64_t rotary_dim) {
  std::vector<double> frequencies;
  for (std::int64_t i = 0; i < rotary_dim / 2; i++) {
    double f = std::pow(config.theta, -2.0 * double(i) / double(rotary_dim));
    if (config.scaling == RopeScaling::linear) f /= config.factor;
    if (config.scaling == RopeScaling::llama3) {
      // Long waves are stretched by `factor`, short ones stay, those between are blended (Llama 3.1).
      const double wavelength = 2 * std::numbers::pi / f, old = double(config.original_max_position_embeddings);
      const double longest = old / config.low_freq_factor, shortest = old / config.high_freq_factor;
      if (wavelength > longest) {
        f /= config.factor;
      } else if (wavelength >= shortest) {
        const double smooth = (old / wavelength - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
        f = (1 - smooth) * f / config.factor + smooth * f;
      }
    }
    if (!config.divisors.empty()) f /= config.divisors[std::size_t(i)];
    frequencies.push_back(f);
  }
  return frequencies;
}

}  // namespace peft
