// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "peft/core/config.hpp"
#include "peft/tokenizer/fwd.hpp"

namespace peft {

namespace jinja {
class Template;
}

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"; some templates know others ("tool", "input")
  std::string content;
};

/// How a model wants a conversation written: a Jinja program that comes with its tokenizer, run as transformers runs it.
class ChatTemplate {
 public:
  /// By the token that ends a turn: <|im_end|>, <|eot_id|>, another one.
  enum class Format { none, chatml, llama3, other };

  ChatTemplate() = default;
  /// Never throws: what cannot be read is not usable(), and render() says why.
  explicit ChatTemplate(std::string text);

  const std::string& text() const { return text_; }
  Format format() const { return format_; }
  /// True if render() can work: there is a template, and it is understood.
  bool usable() const { return program_ != nullptr; }
  /// Why it is not, where there is one.
  const std::string& failure() const { return failure_; }
  /// The token that ends a turn, by its format; "" if there is no such token.
  std::string_view turn_end() const;
  /// True if it has words for a message of the role "input" behind the user's that it belongs to, as Alpaca's "### Input:".
  bool has_inputs() const;

  /// The conversation as text, special tokens included: encode it with add_special_tokens = false. With `add_generation_prompt` it ends where the assistant
  /// begins to answer. `variables` is an object of further names that the template may ask for (tools, enable_thinking, …), or null. Throws ConfigError where
  /// there is no template, where it is not understood, and where it refuses the conversation (Llama 2 wants user and assistant in turn).
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt, std::string_view bos_token = "", std::string_view eos_token = "",
                     const Json* variables = nullptr) const;

 private:
  std::string text_;
  Format format_ = Format::none;
  std::shared_ptr<const jinja::Template> program_;
  std::string failure_;  // why there is no program
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/chat_template.inl"
#endif
