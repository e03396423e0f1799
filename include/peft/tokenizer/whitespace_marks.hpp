// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/tokenizer/decoder.hpp"
#include "peft/tokenizer/normalizer.hpp"

namespace peft::tokenizer {

/// White space as pieces of ChatGLM-6B's vocabulary: a line's end "<n>", a tab "<|tab|>", k spaces in a row "<|blank_k|>" for k = 2 … 80, the longest first.
class WhitespaceMarks final : public Normalizer {
 public:
  static constexpr std::size_t longest = 80;
  void apply(AlignedText& text) const override;
};

/// The reverse.
class WhitespaceMarksDecoder final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override;
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/whitespace_marks.inl"
#endif
