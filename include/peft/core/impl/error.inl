// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <numeric>

#include "peft/core/error.hpp"

namespace peft {

PEFT_INLINE FormatError::FormatError(std::string_view path, std::int64_t byte, std::string_view reason)
    : Error("[file] " + std::string(path) + (byte < 0 ? "" : " at byte " + std::to_string(byte)) + ": " + std::string(reason)),
      path_(path),
      reason_(reason),
      byte_(byte) {}

PEFT_INLINE std::string nearest_name(std::string_view name, std::span<const std::string> candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, name.size() / 3) + 1;
  std::vector<std::size_t> previous, current;
  for (const std::string& candidate : candidates) {  // Levenshtein, two rows
    previous.resize(candidate.size() + 1), current.resize(candidate.size() + 1);
    std::iota(previous.begin(), previous.end(), std::size_t{0});
    for (std::size_t i = 0; i < name.size(); i++) {
      current[0] = i + 1;
      for (std::size_t j = 0; j < candidate.size(); j++)
        current[j + 1] = std::min({previous[j + 1] + 1, current[j] + 1, previous[j] + (name[i] != candidate[j])});
      std::swap(previous, current);
    }
    if (previous[candidate.size()] < best_distance) best_distance = previous[candidate.size()], best = candidate;
  }
  return best;
}

PEFT_INLINE std::string did_you_mean(std::string_view name, std::span<const std::string> candidates, std::string_view what, std::size_t limit) {
  std::string text;
  if (std::string near = nearest_name(name, candidates); !near.empty()) text += "; did you mean \"" + near + "\"?";
  text += (text.empty() ? "; " : " ") + std::string(what) + ":";
  for (std::size_t i = 0; i < candidates.size() && i < limit; i++) text += (i ? ", " : " ") + candidates[i];
  if (candidates.size() > limit) text += ", … (" + std::to_string(candidates.size() - limit) + " more)";
  return text;
}

}  // namespace peft
