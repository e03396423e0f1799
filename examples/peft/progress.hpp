// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/train/trainer.hpp>

#include <chrono>
#include <string>

namespace tool {

/// A run as one line that is drawn again and again on a terminal, and as a line after each fifth, or ten minutes, elsewhere.
class ProgressBar {
 public:
  explicit ProgressBar(std::int64_t epochs) : epochs_(epochs) {}
  void show(const peft::TrainingProgress& progress);
  /// A line of its own above the bar.
  void line(const std::string& text);
  void finish();

 private:
  std::string text(const peft::TrainingProgress& progress) const;

  std::int64_t epochs_;
  double smooth_loss_ = 0;
  bool drawn_ = false;
  std::int64_t last_part_ = 0;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace tool
