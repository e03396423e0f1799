// SPDX-License-Identifier: Apache-2.0
#include "progress.hpp"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "common.hpp"

namespace tool {

namespace {
// Of the terminal; wide where there is none.
std::size_t columns() {
  winsize size{};
  return is_terminal() && ::ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 1000;
}
}  // namespace

std::string bar_text(double done, int width) {
  const int halves = int(done * width * 2);
  std::string bar, rest;
  for (int i = 0; i < halves / 2; i++) bar += "━";
  if (halves % 2) bar += "╸";
  for (int i = (halves + 1) / 2; i < width; i++) rest += "─";
  return bar + dim(rest);
}

std::string ProgressBar::text(const peft::TrainingProgress& p) const {
  const double done = double(p.step) / double(p.steps);
  const std::int64_t epoch = std::clamp<std::int64_t>(std::int64_t(std::ceil(p.epoch)), 1, epochs_);
  const std::string front = fmt::format("epoch {}/{}  ", epoch, epochs_),
                    back = fmt::format(" {:3.0f} %   step {}/{}   loss {:.3f}", done * 100, p.step, p.steps, smooth_loss_);
  // What a narrow terminal has no room for is left out: a line that wraps could not be drawn over.
  std::vector<std::string> more = {fmt::format("   {} left", time_text(p.seconds_left)), fmt::format("   {}", bytes_text(p.peak_memory)),
                                   fmt::format("   {:.0f} tok/s", p.tokens_per_second), fmt::format("   lr {:.1e}", p.learning_rate)};
  constexpr std::size_t narrow = 10, wide = 30;
  const std::size_t room = columns() - 1;
  const auto taken = [&] {
    std::size_t length = front.size() + back.size();
    for (const std::string& part : more) length += part.size();
    return length;
  };
  while (!more.empty() && taken() + narrow > room) more.pop_back();
  std::string line = front + bar_text(done, int(std::clamp(room > taken() ? room - taken() : 0, narrow, wide))) + back;
  for (auto part = more.rbegin(); part != more.rend(); ++part) line += *part;
  return line;
}

void ProgressBar::show(const peft::TrainingProgress& p) {
  // One batch's loss jumps; the line shows a mean over the last ten or so.
  smooth_loss_ = smooth_loss_ == 0 ? p.loss : 0.9 * smooth_loss_ + 0.1 * p.loss;
  const auto now = std::chrono::steady_clock::now();
  if (last_ == std::chrono::steady_clock::time_point{}) last_ = now - std::chrono::milliseconds(100);
  const std::int64_t part = p.step * 5 / p.steps;
  const bool due =
      is_terminal() ? p.step == p.steps || now - last_ >= std::chrono::milliseconds(100) : part != last_part_ || now - last_ >= std::chrono::minutes(10);
  if (!due) return;
  last_ = now, last_part_ = part;
  if (is_terminal())
    fmt::print("\r{}\033[K", text(p));
  else
    fmt::print("{}\n", text(p));
  std::fflush(stdout);
  drawn_ = is_terminal();
}

void ProgressBar::line(const std::string& text) {
  if (drawn_) fmt::print("\r\033[K");
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void ProgressBar::finish() {
  if (drawn_) fmt::print("\n");
  drawn_ = false;
}

CountBar::CountBar(bool wanted) : shown_(wanted && ::isatty(2)) {}

void CountBar::show(std::size_t done, std::size_t all, std::int64_t tokens) {
  if (!shown_) return;
  const double now = seconds();
  if (now - last_ < 0.1 && done < all) return;
  last_ = now;
  fmt::print(stderr, "\r{} {:3.0f} %   {} of {}   {:.0f} tok/s   {} left\033[K", bar_text(double(done) / double(all), 30), 100.0 * double(done) / double(all),
             done, all, double(tokens) / std::max(now, 1e-9), done > 0 ? time_text(now / double(done) * double(all - done)) : "?");
  std::fflush(stderr);
}

void CountBar::clear() const {
  if (shown_) fmt::print(stderr, "\r\033[K");
}

}  // namespace tool
