// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>

#include "peft/core/error.hpp"
#include "peft/core/token_template.hpp"

namespace peft {

PEFT_INLINE std::int64_t num_virtual_tokens(std::span<const TemplatePart> parts) {
  std::int64_t count = 0;
  for (const TemplatePart& part : parts) count += part.count;
  return count;
}

PEFT_INLINE std::vector<TemplatePart> parse_token_template(std::string_view text) {
  using Kind = TemplatePart::Kind;
  constexpr std::int64_t most = 1 << 20;
  const auto refuse = [&](const std::string& why) { throw ConfigError("token_template", "\"" + std::string(text) + "\" " + why); };
  std::vector<TemplatePart> parts;
  bool answered = false;
  const auto letter = [&](char c) {
    if (parts.empty() || parts.back().kind != Kind::text) parts.push_back({});
    parts.back().text += c;
  };
  const auto drop_blanks = [&] {
    if (parts.empty() || parts.back().kind != Kind::text) return;
    std::string& last = parts.back().text;
    last.erase(last.find_last_not_of(" \t\n") + 1);
    if (last.empty()) parts.pop_back();
  };
  const auto tokens = [&](std::int64_t count) {
    drop_blanks();
    if (!parts.empty() && parts.back().kind == Kind::virtual_tokens)
      parts.back().count += count;
    else
      parts.push_back({Kind::virtual_tokens, "", count});
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    if (rest.starts_with("[P]")) {
      tokens(1), at += 3;
    } else if (rest.starts_with("{{") || rest.starts_with("}}")) {
      letter(rest[0]), at += 2;
    } else if (rest[0] != '{') {
      letter(rest[0]), at++;
    } else {
      const std::size_t close = rest.find('}');
      if (close == rest.npos) refuse("has a { that no } closes");
      const std::string_view inside = rest.substr(1, close - 1);
      at += close + 1;
      if (inside.starts_with("prompt:")) {
        const std::string_view digits = inside.substr(7);
        std::int64_t count = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
        if (error != std::errc() || end != digits.data() + digits.size() || count < 1 || count > most)
          refuse("has {" + std::string(inside) + "}; {prompt:N} with a number of at least 1 is wanted");
        tokens(count);
      } else if (inside == "answer" || inside.starts_with("answer:")) {
        if (answered) refuse("has two answers");
        answered = true;
        parts.push_back({Kind::answer, std::string(inside.size() > 7 ? inside.substr(7) : "answer"), 0});
      } else {
        if (inside.empty() || inside == "prompt") refuse("has {" + std::string(inside) + "}; {FIELD} of a row, {prompt:N} or {answer} are wanted");
        parts.push_back({Kind::field, std::string(inside), 0});
      }
    }
  }
  drop_blanks();
  if (num_virtual_tokens(parts) == 0) refuse("places no virtual token: {prompt:N} or [P]");
  if (num_virtual_tokens(parts) > most) refuse("places more than " + std::to_string(most) + " virtual tokens");
  return parts;
}

}  // namespace peft
