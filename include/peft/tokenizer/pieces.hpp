// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/tokenizer/aligned_text.hpp"

namespace peft::tokenizer {

/// A text on its way through the pre-tokenizers: first one piece, then ever smaller ones, each a span of `text`. A step that only cuts
/// changes the spans; one that writes other characters (ByteLevel, Metaspace) writes a new text.
struct Pieces : AlignedText {
  struct Span {
    std::size_t begin, end;
  };
  std::vector<Span> spans;
  bool at_start = true;  // `text` begins where the whole input begins
  std::vector<Span> spare_spans;

  std::string_view operator[](std::size_t i) const { return std::string_view(text).substr(spans[i].begin, spans[i].end - spans[i].begin); }
  void start(std::string_view whole, bool begins_input, const Origin* whole_origins = nullptr) {
    assign(whole, whole_origins);
    spans.clear(), at_start = begins_input;
    if (!whole.empty()) spans.push_back({0, whole.size()});
  }
};

}  // namespace peft::tokenizer
