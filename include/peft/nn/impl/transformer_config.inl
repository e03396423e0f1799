// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "peft/core/float16.hpp"
#include "peft/nn/transformer_config.hpp"

namespace peft {

PEFT_INLINE std::vector<double> alibi_slopes(std::int64_t heads) {
  std::int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  std::vector<double> slopes;
  for (std::int64_t i = 1; i <= power; i++) slopes.push_back(std::exp2(-8.0 * double(i) / double(power)));
  for (std::int64_t i = 1; std::int64_t(slopes.size()) < heads; i += 2) slopes.push_back(std::exp2(-4.0 * double(i) / double(power)));
  return slopes;
}

PEFT_INLINE std::vector<double> rope_frequencies(const RopeConfig& config, std::int64_t rotary_dim, std::int64_t length) {
  std::vector<double> frequencies;
  double theta = config.theta;
  if (config.scaling == RopeScaling::dynamic && length > config.original_max_position_embeddings)
    theta *= std::pow(config.factor * double(length) / double(config.original_max_position_embeddings) - (config.factor - 1),
                      double(rotary_dim) / double(rotary_dim - 2));
  for (std::int64_t i = 0; i < rotary_dim / 2; i++) {
    double f = std::pow(theta, -2.0 * double(i) / double(rotary_dim));
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
    if (config.scaling == RopeScaling::yarn) {
      // Pairs that turn more than beta_fast times over the original length stay, those below beta_slow turns are stretched, a ramp lies
      // between (Peng et al. 2023, arXiv:2309.00071).
      const auto pair_with = [&](double turns) {
        return double(rotary_dim) * std::log(double(config.original_max_position_embeddings) / (turns * 2 * std::numbers::pi)) / (2 * std::log(config.theta));
      };
      double low = pair_with(config.beta_fast), high = pair_with(config.beta_slow);
      if (config.truncate) low = std::floor(low), high = std::ceil(high);
      low = std::max(low, 0.0), high = std::min(high, double(rotary_dim - 1));
      if (low == high) high += 0.001;
      const double stretched = std::clamp((double(i) - low) / (high - low), 0.0, 1.0);
      f = f / config.factor * stretched + f * (1 - stretched);
    }
    if (!config.divisors.empty()) f /= config.divisors[std::size_t(i)];
    if (config.half_frequencies) f = to_float(to_float16(float(f)));
    frequencies.push_back(f);
  }
  return frequencies;
}

PEFT_INLINE double rope_magnitude(const RopeConfig& config) {
  if (config.scaling != RopeScaling::yarn) return 1;
  if (config.attention_factor > 0) return config.attention_factor;
  return config.factor <= 1 ? 1 : 0.1 * std::log(config.factor) + 1;
}

}  // namespace peft
