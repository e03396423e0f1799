// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/core/error.hpp"
#include "peft/core/random.hpp"
#include "peft/generate/impl/logits_processor.inl"
#include "peft/generate/sampler.hpp"

namespace peft {

template <Scalar T>
std::int32_t argmax(std::span<const T> row) {
  // Four at a time, so that one comparison need not wait for the one before.
  std::array<T, 4> most;
  most.fill(detail::removed<T>);
  std::size_t i = 0;
  for (; i + 4 <= row.size(); i += 4)
    for (std::size_t j = 0; j < 4; j++) most[j] = row[i + j] > most[j] ? row[i + j] : most[j];
  for (; i < row.size(); i++) most[0] = row[i] > most[0] ? row[i] : most[0];
  const T best = std::max(std::max(most[0], most[1]), std::max(most[2], most[3]));
  if (!std::isfinite(best)) throw Error("generate", "no token is left to choose: no logit is finite (a broken model or adapter), or every token was taken out");
  return std::int32_t(std::find(row.begin(), row.end(), best) - row.begin());
}

template <Scalar T>
std::int32_t sample(std::span<const T> row, double u) {
  const std::int32_t best = argmax<T>(row);
  detail::Scratch<T> e;
  const double target = detail::exponentials<T>(row, e) * u;
  double sum = 0;
  std::int32_t last = best;
  for (std::size_t i = 0; i < e.size(); i++) {
    if (!(e[i] > 0)) continue;
    last = std::int32_t(i), sum += double(e[i]);
    if (sum > target) return last;
  }
  return last;
}

template <Scalar T>
double log_probability(std::span<const T> row, std::int32_t token) {
  const T most = detail::largest<T>(row);
  double sum = 0;
  for (T l : row) sum += double(std::exp(l - most));
  return double(row[std::size_t(token)] - most) - std::log(sum);
}

template <Scalar T>
std::vector<std::pair<std::int32_t, double>> top_log_probabilities(std::span<const T> row, std::int64_t k) {
  const T most = detail::largest<T>(row);
  double sum = 0;
  for (T l : row) sum += double(std::exp(l - most));
  detail::Scratch<std::int32_t> order(row.size());
  for (std::size_t i = 0; i < order.size(); i++) order[i] = std::int32_t(i);
  const auto n = std::min(std::size_t(k), order.size());
  std::partial_sort(order.begin(), order.begin() + std::ptrdiff_t(n), order.end(), [&](std::int32_t a, std::int32_t b) {
    return row[std::size_t(a)] != row[std::size_t(b)] ? row[std::size_t(a)] > row[std::size_t(b)] : a < b;
  });
  std::vector<std::pair<std::int32_t, double>> top;
  for (std::size_t i = 0; i < n; i++) top.emplace_back(order[i], double(row[std::size_t(order[i])] - most) - std::log(sum));
  return top;
}

PEFT_INLINE SequenceRandom::SequenceRandom(std::uint64_t seed, std::span<const std::int32_t> prompt, std::int64_t answer)
    : key_(mix(seed, 0)), answer_(std::uint64_t(answer)) {
  for (std::int32_t id : prompt) key_ = mix(key_, std::uint64_t(std::uint32_t(id)));
}

PEFT_INLINE double SequenceRandom::uniform(std::int64_t step) const {
  const auto bits = philox(key_, std::uint64_t(step), answer_);
  return double((std::uint64_t(bits[0]) << 21) ^ (bits[1] >> 11)) * 0x1p-53;
}

}  // namespace peft
