// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"
#include "peft/tokenizer/builtin_templates.hpp"
#include "peft/tokenizer/chat_template.hpp"
#include "peft/tokenizer/jinja/template.hpp"

namespace peft {

PEFT_INLINE ChatTemplate::ChatTemplate(std::string text) : text_(std::move(text)) {
  if (text_.empty()) return;
  const auto has = [&](std::string_view part) { return text_.find(part) != text_.npos; };
  format_ = has("<|im_end|>") ? Format::chatml : has("<|eot_id|>") ? Format::llama3 : Format::other;
  try {
    program_ = std::make_shared<jinja::Template>(text_);
  } catch (const Error& e) {
    failure_ = e.what();
  }
}

PEFT_INLINE std::string_view ChatTemplate::turn_end() const { return format_ == Format::chatml ? "<|im_end|>" : format_ == Format::llama3 ? "<|eot_id|>" : ""; }

PEFT_INLINE bool ChatTemplate::has_inputs() const { return text_.find("### Input:") != text_.npos && text_.find("'input'") != text_.npos; }

PEFT_INLINE std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool add_generation_prompt, std::string_view bos_token,
                                             std::string_view eos_token, const Json* variables) const {
  if (text_.empty())
    throw ConfigError("chat_template",
                      "this tokenizer has no chat template; write the prompt as plain text, or choose one (Tokenizer::with_chat_template, peft's "
                      "--chat-template): a file, or a built-in" +
                          did_you_mean("", builtin_chat_templates(), "there are"));
  if (!program_)
    throw ConfigError("chat_template", "this tokenizer's chat template is not understood (" + failure_ + "); it begins \"" + text_.substr(0, 80) +
                                           "\"; write the prompt as plain text");
  jinja::Value::List conversation;
  for (const ChatMessage& message : messages)
    conversation.push_back(jinja::Value::mapping({{"role", jinja::Value(message.role)}, {"content", jinja::Value(message.content)}}));
  jinja::Value::Mapping names = {{"messages", jinja::Value(std::move(conversation))},
                                 {"add_generation_prompt", jinja::Value(add_generation_prompt)},
                                 {"bos_token", jinja::Value(std::string(bos_token))},
                                 {"eos_token", jinja::Value(std::string(eos_token))}};
  const auto known = [&](std::string_view name) { return std::any_of(names.begin(), names.end(), [&](const auto& entry) { return entry.first == name; }); };
  if (variables != nullptr)
    for (const auto& [name, value] : variables->object()) {
      if (known(name)) throw ConfigError("chat_template", "the variable \"" + name + "\" is set by the conversation");
      names.emplace_back(name, jinja::Value::of(value));
    }
  for (const char* name : {"tools", "documents"})  // transformers always passes these two
    if (!known(name)) names.emplace_back(name, jinja::Value::none());
  return program_->render(jinja::Value::mapping(std::move(names)));
}

}  // namespace peft
