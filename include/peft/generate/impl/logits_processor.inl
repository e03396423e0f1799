// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "peft/generate/impl/row.hpp"
#include "peft/generate/logits_processor.hpp"

namespace peft {

namespace detail {

/// The k-th largest value, 1 ≤ k ≤ V. Few of them: a heap of the k largest so far, which most elements do not enter.
template <Scalar T>
T kth_largest(std::span<const T> row, std::int64_t k) {
  const auto n = std::size_t(k);
  Scratch<T> best;
  if (n > row.size() / 8) {
    best.assign(row.begin(), row.end());
    std::nth_element(best.begin(), best.begin() + (k - 1), best.end(), std::greater<T>());
    return best[n - 1];
  }
  best.assign(row.begin(), row.begin() + k);
  std::make_heap(best.begin(), best.end(), std::greater<T>());
  for (std::size_t i = n; i < row.size(); i++) {
    if (!(row[i] > best[0])) continue;
    std::pop_heap(best.begin(), best.end(), std::greater<T>());
    best.back() = row[i];
    std::push_heap(best.begin(), best.end(), std::greater<T>());
  }
  return best[0];
}

/// The n largest stay; of equal ones, those with the larger index, which an ascending stable sort puts last.
template <Scalar T>
void keep_largest(std::span<T> row, std::int64_t n) {
  if (std::size_t(n) >= row.size()) return;
  const T threshold = kth_largest<T>(row, n);
  std::int64_t room = n - std::count_if(row.begin(), row.end(), [&](T l) { return l > threshold; });
  for (std::size_t i = row.size(); i-- > 0;)
    if (row[i] < threshold || (row[i] == threshold && room-- <= 0)) row[i] = removed<T>;
}

}  // namespace detail

namespace logits {

using peft::detail::in_row;
using peft::detail::removed;

template <Scalar T>
void repetition_penalty(std::span<T> row, std::span<const std::int32_t> ids, double penalty) {
  peft::detail::Scratch<std::uint8_t> seen(row.size(), 0);
  for (std::int32_t id : ids) {
    if (!in_row(row, id) || std::exchange(seen[std::size_t(id)], std::uint8_t(1))) continue;
    T& l = row[std::size_t(id)];
    l = l < 0 ? l * T(penalty) : l / T(penalty);
  }
}

template <Scalar T>
void frequency_presence_penalty(std::span<T> row, std::span<const std::int32_t> ids, double frequency, double presence) {
  peft::detail::Scratch<std::int32_t> sorted(ids.begin(), ids.end());
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t end = i;
    while (end < sorted.size() && sorted[end] == sorted[i]) end++;
    if (in_row(row, sorted[i])) row[std::size_t(sorted[i])] -= T(double(end - i) * frequency + presence);
    i = end;
  }
}

template <Scalar T>
void encoder_no_repeat_ngram(std::span<T> row, std::span<const std::int32_t> ids, std::span<const std::int32_t> encoder_ids, std::int64_t n) {
  const auto size = std::size_t(n);
  if (n <= 0 || ids.size() + 1 < size) return;
  const auto last = ids.last(size - 1);
  for (std::size_t i = 0; i + size <= encoder_ids.size(); i++)
    if (std::equal(last.begin(), last.end(), encoder_ids.begin() + std::ptrdiff_t(i)) && in_row(row, encoder_ids[i + size - 1]))
      row[std::size_t(encoder_ids[i + size - 1])] = removed<T>;
}

template <Scalar T>
void no_repeat_ngram(std::span<T> row, std::span<const std::int32_t> ids, std::int64_t n) {
  encoder_no_repeat_ngram<T>(row, ids, ids, n);
}

template <Scalar T>
void sequence_bias(std::span<T> row, std::span<const std::int32_t> ids, std::span<const std::int32_t> sequence, double bias) {
  if (sequence.empty() || !in_row(row, sequence.back())) return;
  if (sequence.size() > 1 && sequence.size() > ids.size()) return;
  const auto before = sequence.first(sequence.size() - 1);
  if (std::equal(before.begin(), before.end(), ids.end() - std::ptrdiff_t(before.size()))) row[std::size_t(sequence.back())] += T(bias);
}

template <Scalar T>
void suppress(std::span<T> row, std::span<const std::int32_t> tokens) {
  for (std::int32_t id : tokens)
    if (in_row(row, id)) row[std::size_t(id)] = removed<T>;
}

template <Scalar T>
void allow_only(std::span<T> row, std::span<const std::int32_t> tokens) {
  peft::detail::Scratch<T> kept;
  for (std::int32_t id : tokens) kept.push_back(in_row(row, id) ? row[std::size_t(id)] : removed<T>);
  std::fill(row.begin(), row.end(), removed<T>);
  for (std::size_t i = 0; i < tokens.size(); i++)
    if (in_row(row, tokens[i])) row[std::size_t(tokens[i])] = kept[i];
}

template <Scalar T>
void force(std::span<T> row, std::span<const std::int32_t> tokens) {
  std::fill(row.begin(), row.end(), removed<T>);
  for (std::int32_t id : tokens)
    if (in_row(row, id)) row[std::size_t(id)] = 0;
}

template <Scalar T>
void exponential_decay_length_penalty(std::span<T> row, std::span<const std::int32_t> eos, std::int64_t over, double factor) {
  if (over <= 0) return;
  for (std::int32_t id : eos)
    if (in_row(row, id)) row[std::size_t(id)] += std::abs(row[std::size_t(id)]) * T(std::pow(factor, double(over)) - 1);
}

template <Scalar T>
void temperature(std::span<T> row, double temperature) {
  for (T& l : row) l /= T(temperature);
}

template <Scalar T>
void top_k(std::span<T> row, std::int64_t k, std::int64_t min_tokens_to_keep) {
  k = std::min(std::max(k, min_tokens_to_keep), std::int64_t(row.size()));
  if (std::size_t(k) == row.size()) return;
  const T threshold = peft::detail::kth_largest<T>(row, k);
  for (T& l : row)
    if (l < threshold) l = removed<T>;
}

// A full sort of a vocabulary costs more than the token. Masses of buckets by logit tell in which bucket the border lies: those below go,
// those above stay, and only that one is sorted.
template <Scalar T>
void top_p(std::span<T> row, double p, std::int64_t min_tokens_to_keep) {
  constexpr std::size_t buckets = 256;
  const T most = peft::detail::largest<T>(row), limit = T(1 - p);
  if (most == removed<T>) return;
  const auto bucket = [&](T l) { return std::min(std::size_t((most - l) * T(8)), buckets - 1); };
  const auto probability = peft::detail::probabilities<T>(row);
  std::array<double, buckets> mass{};
  for (std::size_t i = 0; i < row.size(); i++)
    if (row[i] != removed<T>) mass[bucket(row[i])] += double(probability[i]);
  std::size_t border = buckets - 1;
  double below = 0;
  while (border > 0 && T(below + mass[border]) <= limit) below += mass[border--];

  peft::detail::Scratch<std::int32_t> inside;
  std::int64_t kept = 0;
  for (std::size_t i = 0; i < row.size(); i++) {
    if (row[i] == removed<T>) continue;
    const std::size_t b = bucket(row[i]);
    if (b < border)
      kept++;
    else if (b == border)
      inside.push_back(std::int32_t(i));
  }
  std::sort(inside.begin(), inside.end(),
            [&](std::int32_t a, std::int32_t b) { return row[std::size_t(a)] != row[std::size_t(b)] ? row[std::size_t(a)] < row[std::size_t(b)] : a < b; });
  std::size_t out = 0;
  for (; out < inside.size(); out++) {
    below += double(probability[std::size_t(inside[out])]);
    if (T(below) > limit) break;
  }
  kept += std::int64_t(inside.size() - out);
  if (kept < min_tokens_to_keep) return peft::detail::keep_largest<T>(row, min_tokens_to_keep);
  for (std::size_t i = 0; i < out; i++) row[std::size_t(inside[i])] = removed<T>;
  for (T& l : row)
    if (l != removed<T> && bucket(l) > border) l = removed<T>;
}

template <Scalar T>
void min_p(std::span<T> row, double p, std::int64_t min_tokens_to_keep) {
  const auto probability = peft::detail::probabilities<T>(row);
  const T threshold = T(p) * peft::detail::largest<T>(probability);
  std::int64_t kept = 0;
  for (T x : probability) kept += x >= threshold && x > 0;
  if (kept < min_tokens_to_keep) return peft::detail::keep_largest<T>(row, min_tokens_to_keep);
  for (std::size_t i = 0; i < row.size(); i++)
    if (probability[i] < threshold) row[i] = removed<T>;
}

template <Scalar T>
void typical_p(std::span<T> row, double mass, std::int64_t min_tokens_to_keep) {
  peft::detail::Scratch<T> e;
  const double sum = peft::detail::exponentials<T>(row, e), log_sum = std::log(sum);
  const T most = peft::detail::largest<T>(row);
  double entropy = 0;
  for (std::size_t i = 0; i < row.size(); i++)
    if (e[i] > 0) entropy -= double(e[i]) / sum * (double(row[i] - most) - log_sum);
  struct Entry {
    T distance, probability;
    std::int32_t id;
  };
  peft::detail::Scratch<Entry> all;
  for (std::size_t i = 0; i < row.size(); i++)
    if (row[i] != removed<T>) all.push_back({T(std::abs(log_sum - double(row[i] - most) - entropy)), T(double(e[i]) / sum), std::int32_t(i)});
  if (all.empty()) return;
  std::sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) { return a.distance != b.distance ? a.distance < b.distance : a.id < b.id; });
  double reached = 0;
  std::size_t last = 0;
  for (; last + 1 < all.size(); last++)
    if (reached += double(all[last].probability); T(reached) >= T(mass)) break;
  for (std::size_t i = std::size_t(std::max<std::int64_t>(min_tokens_to_keep, 0)); i < all.size(); i++)
    if (all[i].distance > all[last].distance) row[std::size_t(all[i].id)] = removed<T>;
}

namespace detail {
// Takes out what is less probable than `threshold`, except the min_tokens_to_keep largest.
template <Scalar T>
void cut_below(std::span<T> row, const peft::detail::Scratch<T>& probability, T threshold, std::int64_t min_tokens_to_keep) {
  const T safe = peft::detail::kth_largest<T>(row, std::min(std::max<std::int64_t>(min_tokens_to_keep, 1), std::int64_t(row.size())));
  for (std::size_t i = 0; i < row.size(); i++)
    if (probability[i] < threshold && row[i] < safe) row[i] = removed<T>;
}
}  // namespace detail

template <Scalar T>
void epsilon_cutoff(std::span<T> row, double epsilon, std::int64_t min_tokens_to_keep) {
  detail::cut_below<T>(row, peft::detail::probabilities<T>(row), T(epsilon), min_tokens_to_keep);
}

template <Scalar T>
void eta_cutoff(std::span<T> row, double epsilon, std::int64_t min_tokens_to_keep) {
  const auto probability = peft::detail::probabilities<T>(row);
  double entropy = 0;
  for (T p : probability)
    if (p > 0) entropy -= double(p) * std::log(double(p));
  detail::cut_below<T>(row, probability, T(std::min(epsilon, std::sqrt(epsilon) * std::exp(-entropy))), min_tokens_to_keep);
}

template <Scalar T>
double log_softmax(std::span<T> row) {
  const T most = peft::detail::largest<T>(row);
  double sum = 0;
  for (T l : row) sum += double(std::exp(l - most));
  const double lse = double(most) + std::log(sum);
  for (T& l : row) l = T(double(l) - lse);
  return lse;
}

}  // namespace logits
}  // namespace peft
