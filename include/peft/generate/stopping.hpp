// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

/// Lets text through until one of the stop strings is complete, wherever the borders between tokens lie. What may be the beginning of a
/// stop string is held back until it is known. Of several, the one that is complete first counts; of those, the longest.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings = {}) : strings_(std::move(strings)) {}
  /// The text that is now certain, without any part of a stop string. Empty once stopped.
  std::string push(std::string_view text);
  /// What was held back: at the end it was no stop string after all.
  std::string flush();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> strings_;
  std::string held_;
  bool stopped_ = false;
};

/// Tokens to text as they come: whole characters only, cut at stop strings. The prompt's last token goes ahead unseen, because with some
/// tokenizers (Metaspace) the first token of a text loses its leading space.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stop, std::span<const std::int32_t> prompt);
  /// The new text, often empty.
  std::string push(std::int32_t id);
  /// What is still held back. Call it once, when no token follows.
  std::string finish();
  bool stopped() const { return stop_.stopped(); }

 private:
  StreamDecoder decoder_;
  StopStrings stop_;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/stopping.inl"
#endif
