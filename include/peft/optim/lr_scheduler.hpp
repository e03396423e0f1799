// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>

#include "peft/core/error.hpp"

namespace peft {

enum class Schedule { constant, linear, cosine };

inline Schedule schedule_named(const std::string& name) {
  const std::array<std::string, 3> known = {"constant", "linear", "cosine"};
  for (std::size_t i = 0; i < known.size(); i++)
    if (name == known[i]) return Schedule(i);
  throw ConfigError("lr_scheduler", "\"" + name + "\" is not known" + did_you_mean(name, known, "known are"));
}

/// What multiplies the learning rate in step 0, 1, … of `total`: it rises from 0 through `warmup` steps, and then stays, falls in a line to 0,
/// or along half a cosine (Hugging Face's get_scheduler).
inline double lr_factor(Schedule schedule, std::int64_t step, std::int64_t warmup, std::int64_t total) {
  if (step < warmup) return double(step) / double(std::max<std::int64_t>(1, warmup));
  if (schedule == Schedule::constant) return 1;
  const double rest = double(std::max<std::int64_t>(1, total - warmup));
  if (schedule == Schedule::linear) return std::max(0.0, double(total - step) / rest);
  return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * double(step - warmup) / rest)));
}

}  // namespace peft
