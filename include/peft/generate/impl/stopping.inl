// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/generate/stopping.hpp"

namespace peft {

PEFT_INLINE std::string StopStrings::push(std::string_view text) {
  if (stopped_) return {};
  if (strings_.empty()) return std::string(text);
  held_ += text;
  std::size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& s : strings_) {
    const std::size_t at = held_.find(s);
    if (at == std::string::npos || at + s.size() > end || (at + s.size() == end && at > begin)) continue;
    begin = at, end = at + s.size();
  }
  if (begin != std::string::npos) {
    stopped_ = true;
    held_.resize(begin);
    return std::exchange(held_, {});
  }
  // The longest end of the text that begins a stop string stays.
  std::size_t keep = 0;
  for (const std::string& s : strings_)
    for (std::size_t n = std::min(s.size() - 1, held_.size()); n > keep; n--)
      if (held_.ends_with(std::string_view(s).substr(0, n))) keep = n;
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, certain.size());
  return certain;
}

PEFT_INLINE std::string StopStrings::flush() { return std::exchange(held_, {}); }

PEFT_INLINE TextStream::TextStream(const Tokenizer& tokenizer, std::vector<std::string> stop, std::span<const std::int32_t> prompt)
    : decoder_(tokenizer), stop_(std::move(stop)) {
  if (!prompt.empty() && prompt.back() >= 0) decoder_.push(prompt.back());
}

PEFT_INLINE std::string TextStream::push(std::int32_t id) { return stop_.push(decoder_.push(id)); }

PEFT_INLINE std::string TextStream::finish() {
  if (stop_.stopped()) return {};
  std::string text = stop_.push(decoder_.flush());
  return text + stop_.flush();
}

}  // namespace peft
