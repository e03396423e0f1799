// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "peft/train/scores.hpp"

namespace peft {

PEFT_INLINE void Scores::add_number(double wanted, double given) {
  // Welford's update, which large means do not harm.
  total_++;
  const double by_wanted = wanted - mean_wanted_, by_given = given - mean_given_;
  mean_wanted_ += by_wanted / double(total_), mean_given_ += by_given / double(total_);
  var_wanted_ += by_wanted * (wanted - mean_wanted_), var_given_ += by_given * (given - mean_given_);
  covariance_ += by_wanted * (given - mean_given_);
}

PEFT_INLINE std::int64_t Scores::right() const {
  std::int64_t right = 0;
  for (std::int64_t label = 0; label < num_labels_; label++) right += count(label, label);
  return right;
}

PEFT_INLINE double Scores::f1(std::int64_t label) const {
  std::int64_t wanted = 0, given = 0;
  for (std::int64_t other = 0; other < num_labels_; other++) wanted += count(label, other), given += count(other, label);
  return wanted + given > 0 ? 2 * double(count(label, label)) / double(wanted + given) : 0;
}

PEFT_INLINE double Scores::f1() const {
  if (num_labels_ == 2) return f1(1);
  double sum = 0;
  for (std::int64_t label = 0; label < num_labels_; label++) sum += f1(label) / double(num_labels_);
  return sum;
}

PEFT_INLINE double Scores::matthews() const {
  // (c s − Σ t p) / √((s² − Σ p²)(s² − Σ t²)), t and p how often each class is wanted and given, c how often right, s in all
  double products = 0, wanted_squares = 0, given_squares = 0;
  for (std::int64_t label = 0; label < num_labels_; label++) {
    double wanted = 0, given = 0;
    for (std::int64_t other = 0; other < num_labels_; other++) wanted += double(count(label, other)), given += double(count(other, label));
    products += wanted * given, wanted_squares += wanted * wanted, given_squares += given * given;
  }
  const double all = double(total_), scale = std::sqrt((all * all - given_squares) * (all * all - wanted_squares));
  return scale > 0 ? (double(right()) * all - products) / scale : 0;
}

PEFT_INLINE double Scores::pearson() const {
  const double scale = std::sqrt(var_wanted_ * var_given_);
  return scale > 0 ? covariance_ / scale : 0;
}

PEFT_INLINE std::vector<std::pair<std::string, double>> Scores::named() const {
  if (of_answers_) return {{"exact_match", exact_match()}, {"f1", answer_f1()}};
  if (num_labels_ == 0) return {{"pearson", pearson()}};
  return {{"accuracy", accuracy()}, {"f1", f1()}, {"matthews", matthews()}};
}

}  // namespace peft
