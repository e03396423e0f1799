// SPDX-License-Identifier: Apache-2.0
#include "progress.hpp"

#include <fmt/core.h>

#include <cmath>
#include <cstdio>

#include "common.hpp"

namespace tool {

void ProgressBar::show(const peft::TrainingProgress& p) {
  // One batch's loss jumps; the line shows a mean over the last ten or so.
  smooth_loss_ = smooth_loss_ == 0 ? p.loss : 0.9 * smooth_loss_ + 0.1 * p.loss;
  const auto now = std::chrono::steady_clock::now();
  const bool last = p.step == p.steps;
  const std::int64_t tenth = p.step * 10 / p.steps;
  if (is_terminal() ? !last && now - last_ < std::chrono::milliseconds(100) : tenth == last_tenth_) return;
  last_ = now, last_tenth_ = tenth;
  const double done = double(p.step) / double(p.steps);
  constexpr int width = 30;
  const int filled = int(done * width * 2);
  std::string bar;
  for (int i = 0; i < filled / 2; i++) bar += "━";
  if (filled % 2) bar += "╸";
  std::string rest;
  for (int i = (filled + 1) / 2; i < width; i++) rest += "━";
  const std::string text =
      fmt::format("epoch {}/{}  {}{} {:3.0f} %   step {}/{}   loss {:.3f}   lr {:.1e}   {:.0f} tok/s   {}   {} left", std::min<std::int64_t>(epochs_, std::int64_t(std::ceil(p.epoch))),
                  epochs_, bar, dim(rest), done * 100, p.step, p.steps, smooth_loss_, p.learning_rate, p.tokens_per_second, bytes_text(p.peak_memory), time_text(p.seconds_left));
  if (is_terminal()) fmt::print("\r{}\033[K", text);
  else fmt::print("{}\n", text);
  std::fflush(stdout);
  drawn_ = is_terminal();
}

void ProgressBar::line(const std::string& text) {
  if (drawn_) fmt::print("\r\033[K");
  fmt::print("{}\n", text);
}

void ProgressBar::finish() {
  if (drawn_) fmt::print("\n");
  drawn_ = false;
}

}  // namespace tool
