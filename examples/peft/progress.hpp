// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/train/trainer.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
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

/// How many of so many are done, on standard error, where someone looks on and `wanted` says so.
class CountBar {
 public:
  explicit CountBar(bool wanted = true);
  void show(std::size_t done, std::size_t all, std::int64_t tokens);
  void clear() const;
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  bool shown_;
  double last_ = -1;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace tool
