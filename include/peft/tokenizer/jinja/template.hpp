// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "peft/tokenizer/jinja/value.hpp"

/// The part of Jinja 3.1 that chat templates are written in, as transformers sets it up: trim_blocks and lstrip_blocks, loop controls, the
/// functions raise_exception and strftime_now, tojson that leaves characters as they are, and no way to change what the template was given.
namespace peft::jinja {

struct Node;

class Template {
 public:
  /// Throws ConfigError with the line of what is not understood.
  explicit Template(std::string_view text);
  /// `variables` is a mapping. Throws ConfigError: raise_exception, wrong types, more than a hundred calls within each other, and where a template runs away:
  /// time and memory are bounded, by much more than a conversation of the length of `variables` needs.
  std::string render(const Value& variables) const;

 private:
  std::shared_ptr<const Node> root_;
};

}  // namespace peft::jinja

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/jinja/impl/template.inl"
#endif
