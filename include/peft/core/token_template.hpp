// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/config.hpp"

namespace peft {

/// A piece of a template that says where virtual tokens stand among the texts of a row (Liu et al. 2021, arXiv:2103.10385):
///
///     {prompt:3} {sub_label} was born in {prompt:2} {answer:obj_label}.
///
/// {prompt:N} are the next N virtual tokens, [P] is one of them; {answer} or {answer:FIELD} is what the model is to say (at most one), {FIELD} what
/// a row has; {{ and }} are braces, all else is text. Blanks ahead of virtual tokens and at the template's end count for nothing.
struct TemplatePart {
  enum class Kind { text, virtual_tokens, field, answer };
  Kind kind = Kind::text;
  std::string text = {};   // or the field's name
  std::int64_t count = 0;  // of virtual tokens
};

/// Throws ConfigError for braces that do not close, a count that is no number of at least 1, a second answer, and a template without virtual tokens.
std::vector<TemplatePart> parse_token_template(std::string_view text);
std::int64_t num_virtual_tokens(std::span<const TemplatePart> parts);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/core/impl/token_template.inl"
#endif
