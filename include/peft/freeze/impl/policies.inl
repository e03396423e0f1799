// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cctype>

#include "peft/freeze/policies.hpp"

namespace peft::detail {

// `text` whole against `pattern`: * any text, {a-b} a number, {x,y} a word.
PEFT_INLINE bool match_glob(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*') {
    for (std::size_t n = 0; n <= text.size(); n++)
      if (match_glob(pattern.substr(1), text.substr(n))) return true;
    return false;
  }
  if (const std::size_t close = pattern.find('}'); pattern[0] == '{' && close != std::string_view::npos) {
    const std::string_view inside = pattern.substr(1, close - 1), rest = pattern.substr(close + 1);
    if (const std::size_t dash = inside.find('-'); dash != std::string_view::npos && inside.find_first_not_of("0123456789-") == std::string_view::npos) {
      std::size_t digits = 0;
      while (digits < text.size() && digits < 9 && std::isdigit(static_cast<unsigned char>(text[digits]))) digits++;
      if (digits == 0 || (digits > 1 && text[0] == '0') || dash == 0 || dash + 1 == inside.size()) return false;
      const long number = std::stol(std::string(text.substr(0, digits))), low = std::stol(std::string(inside.substr(0, dash))),
                 high = std::stol(std::string(inside.substr(dash + 1)));
      return low <= number && number <= high && match_glob(rest, text.substr(digits));
    }
    for (std::size_t begin = 0; begin <= inside.size();) {
      const std::size_t comma = std::min(inside.find(',', begin), inside.size());
      const std::string_view word = inside.substr(begin, comma - begin);
      if (text.starts_with(word) && match_glob(rest, text.substr(word.size()))) return true;
      begin = comma + 1;
    }
    return false;
  }
  return !text.empty() && pattern[0] == text[0] && match_glob(pattern.substr(1), text.substr(1));
}

PEFT_INLINE void refuse_empty_policy(const std::vector<std::string>& names, const std::string& wanted) {
  throw ConfigError("freeze", (wanted.empty() ? "the policy picks no parameter of this model" : "\"" + wanted + "\" matches no parameter of this model") +
                                  did_you_mean(wanted, names, "Parameters here", 8));
}

}  // namespace peft::detail

namespace peft {

PEFT_INLINE bool Matching::operator()(const ParameterInfo& info) const {
  const std::string_view path = info.path;
  for (std::size_t begin = 0;;) {
    if (detail::match_glob(pattern, path.substr(begin))) return true;
    const std::size_t dot = path.find('.', begin);
    if (dot == std::string_view::npos) return false;
    begin = dot + 1;
  }
}

}  // namespace peft
