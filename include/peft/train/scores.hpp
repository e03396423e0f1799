// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "peft/core/config.hpp"

namespace peft {

/// How right answers are. Of classes: the counts of each class where each was wanted. Of regression: the moments of what was given and wanted. Of pieces of
/// texts: the means of what each one scored.
class Scores {
 public:
  /// Of `num_labels` classes; 0: of numbers.
  explicit Scores(std::int64_t num_labels) : num_labels_(num_labels), counts_(std::size_t(num_labels * num_labels)) {}
  static Scores of_answers() {
    Scores scores(0);
    scores.of_answers_ = true;
    return scores;
  }

  void add(std::int64_t wanted, std::int64_t given) { counts_[std::size_t(wanted * num_labels_ + given)]++, total_++; }
  void add_number(double wanted, double given);
  /// An answer that is as wanted (1) or not (0), and how much it has in common with what is.
  void add_answer(double exact, double f1) { exact_ += exact, common_ += f1, total_++; }

  std::int64_t total() const { return total_; }
  std::int64_t right() const;
  std::int64_t count(std::int64_t wanted, std::int64_t given) const { return counts_[std::size_t(wanted * num_labels_ + given)]; }

  /// The part that is right.
  double accuracy() const { return total_ > 0 ? double(right()) / double(total_) : 0; }
  /// 2 tp / (2 tp + fp + fn) of one class; 0 where that is 0/0.
  double f1(std::int64_t label) const;
  /// Of the second of two classes, as GLUE has it; of more, the mean over all.
  double f1() const;
  /// The correlation of wanted and given classes (Matthews 1975; of more than two, Gorodkin 2004); 0 where one of them does not vary.
  double matthews() const;
  /// The correlation of wanted and given numbers; 0 where one of them does not vary.
  double pearson() const;

  /// Of pieces of texts.
  double exact_match() const { return total_ > 0 ? exact_ / double(total_) : 0; }
  double answer_f1() const { return total_ > 0 ? common_ / double(total_) : 0; }

  /// Those that fit, by name: accuracy, f1 and matthews; pearson; or exact_match and f1.
  std::vector<std::pair<std::string, double>> named() const;

 private:
  std::int64_t num_labels_, total_ = 0;
  bool of_answers_ = false;
  double exact_ = 0, common_ = 0;                                                              // sums
  std::vector<std::int64_t> counts_;                                                           // [wanted][given]
  double mean_wanted_ = 0, mean_given_ = 0, var_wanted_ = 0, var_given_ = 0, covariance_ = 0;  // the last three times total
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/train/impl/scores.inl"
#endif
