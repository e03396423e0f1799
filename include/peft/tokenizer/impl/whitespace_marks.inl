// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/tokenizer/whitespace_marks.hpp"

namespace peft::tokenizer {

PEFT_INLINE void WhitespaceMarks::apply(AlignedText& text) const {
  if (text.text.find_first_of("\n\t") == text.text.npos && text.text.find("  ") == text.text.npos) return;
  Rewriter out(text);
  const std::string_view old = out.old();
  for (std::size_t at = 0; at < old.size();) {
    if (old[at] == '\n' || old[at] == '\t') {
      out.put(old[at] == '\n' ? "<n>" : "<|tab|>", at), at++;
      continue;
    }
    if (old[at] != ' ') {
      const std::size_t end = std::min(old.find_first_of("\n\t ", at), old.size());
      out.keep(at, end), at = end;
      continue;
    }
    const std::size_t end = std::min(old.find_first_not_of(' ', at), old.size());
    while (at < end) {
      const std::size_t n = std::min(end - at, longest);
      if (n > 1)
        out.put("<|blank_" + std::to_string(n) + "|>", at);
      else
        out.keep(at, at + 1);
      at += n;
    }
  }
  out.finish();
}

PEFT_INLINE void WhitespaceMarksDecoder::apply(std::vector<std::string>& tokens) const {
  static const std::vector<std::pair<std::string, std::string>> marks = [] {
    std::vector<std::pair<std::string, std::string>> all = {{"<n>", "\n"}, {"<|tab|>", "\t"}};
    for (std::size_t n = 2; n <= WhitespaceMarks::longest; n++) all.emplace_back("<|blank_" + std::to_string(n) + "|>", std::string(n, ' '));
    return all;
  }();
  for (std::string& token : tokens) {
    std::string text;
    for (std::size_t at = 0; at < token.size();) {
      const std::string_view rest = std::string_view(token).substr(at);
      const auto mark = rest[0] != '<' ? marks.end() : std::ranges::find_if(marks, [&](const auto& m) { return rest.starts_with(m.first); });
      text += mark == marks.end() ? rest.substr(0, 1) : std::string_view(mark->second);
      at += mark == marks.end() ? 1 : mark->first.size();
    }
    token = std::move(text);
  }
}

}  // namespace peft::tokenizer
