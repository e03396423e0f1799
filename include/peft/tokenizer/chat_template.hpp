// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "peft/core/config.hpp"

namespace peft {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

/// How a model wants a conversation written. A published template is a Jinja program; here it is recognised by what it prints and
/// rendered by a built-in of the same meaning: ChatML (also SmolLM's and Qwen 2's, each with its default system prompt), Llama 3,
/// Zephyr and Llama 2.
class ChatTemplate {
 public:
  enum class Format { none, unknown, chatml, llama3, zephyr, llama2 };

  ChatTemplate() = default;
  /// Never throws: what is not recognised is Format::unknown, and render() says so.
  explicit ChatTemplate(std::string text);

  const std::string& text() const { return text_; }
  Format format() const { return format_; }
  /// True if render() works.
  bool usable() const { return format_ != Format::none && format_ != Format::unknown; }
  /// The system prompt that the template puts in front of a conversation without one.
  const std::string& default_system() const { return default_system_; }

  /// The conversation as text, special tokens included: encode it with add_special_tokens = false. With `add_generation_prompt` it ends where the assistant
  /// begins to answer. Throws ConfigError where no template is known, or where this one refuses the roles (Llama 2 wants user and assistant in turn).
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt, std::string_view bos_token = "", std::string_view eos_token = "") const;

 private:
  std::string text_;
  Format format_ = Format::none;
  std::string default_system_;
  bool has_default_system_ = false;
  bool known_roles_only_ = false;  // the template treats other roles (tool) in ways that are not built in
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/chat_template.inl"
#endif
