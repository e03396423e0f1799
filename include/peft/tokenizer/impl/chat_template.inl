// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <utility>

#include "peft/core/error.hpp"
#include "peft/tokenizer/chat_template.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft {
namespace tokenizer::detail {

/// A template in one spelling: no white space outside of string literals, single quotes, \n in literals, ['key'] for .key of a message.
inline std::string canonical_template(std::string_view text) {
  std::string canonical;
  char quote = '\0';
  for (std::size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    if (quote == '\0') {
      if (c == '\'' || c == '"')
        quote = c, canonical += '\'';
      else if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
        canonical += c;
    } else if (c == quote) {
      quote = '\0', canonical += '\'';
    } else if (c == '\n') {
      canonical += "\\n";
    } else if (c == '\\' && i + 1 < text.size()) {
      canonical += c, canonical += text[++i];
    } else {
      canonical += c;
    }
  }
  for (const auto& [from, to] : {std::pair<std::string_view, std::string_view>{"message.role", "message['role']"},
                                 {"message.content", "message['content']"},
                                 {"'+'", ""}})  // 'a' + 'b' is 'ab'
    for (std::size_t at = 0; (at = canonical.find(from, at)) != canonical.npos; at += to.size()) canonical.replace(at, from.size(), to);
  return canonical;
}

inline std::string trimmed(std::string_view text) {
  while (!text.empty() && unicode::is(unicode::decode(text, 0).value, unicode::space)) text.remove_prefix(unicode::decode(text, 0).length);
  while (!text.empty() && unicode::is(unicode::decode_before(text, text.size()).value, unicode::space))
    text.remove_suffix(unicode::decode_before(text, text.size()).length);
  return std::string(text);
}

}  // namespace tokenizer::detail

PEFT_INLINE ChatTemplate::ChatTemplate(std::string text) : text_(std::move(text)) {
  if (text_.empty()) return;
  format_ = Format::unknown;
  const std::string canonical = tokenizer::detail::canonical_template(text_);
  const auto has = [&](std::string_view part) { return canonical.find(part) != canonical.npos; };
  // What changes the text of messages in ways that no built-in knows: reasoning that is cut out, dates, sections for tools in Llama 3.1.
  if (has("<think>") || has("reasoning_content") || has("enable_thinking") || has("strftime") || has("date_string")) return;

  if (has("'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>\\n'") && !has("|trim") && !has("strip(") && !has("bos_token")) {
    format_ = Format::chatml;
    known_roles_only_ = has("message['role']=='tool'");
    constexpr std::string_view begin = "<|im_start|>system\\n", end = "<|im_end|>\\n'";
    if (const std::size_t at = canonical.find("'" + std::string(begin)); at != canonical.npos) {
      for (std::size_t from = at; from != canonical.npos; from = canonical.find("'" + std::string(begin), from + 1)) {
        const std::size_t first = from + 1 + begin.size(), last = canonical.find(end, first);
        if (last == canonical.npos || canonical.find('\'', first) < last) continue;  // 'system\n' + messages[0]['content'] …
        default_system_ = canonical.substr(first, last - first);
        has_default_system_ = true;
      }
      if (default_system_.find('\\') != std::string::npos) format_ = Format::unknown;  // escapes in it are Jinja's to read
    }
  } else if (has("'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+'<|eot_id|>'") && has("bos_token+content") &&
             !has("tools")) {
    format_ = Format::llama3;
  } else if (has("'<|user|>\\n'+message['content']+eos_token") && has("'<|assistant|>\\n'+message['content']+eos_token")) {
    format_ = Format::zephyr;
  } else if (has("bos_token+'[INST]'+content.strip()+'[/INST]'") || has("bos_token+'[INST] '+content.strip()+' [/INST]'")) {
    if (has("'<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+message['content']") && has("' '+content.strip()+' '+eos_token")) format_ = Format::llama2;
  }
}

PEFT_INLINE std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool add_generation_prompt, std::string_view bos_token,
                                             std::string_view eos_token) const {
  const auto refuse = [](const std::string& why) -> ConfigError { return ConfigError("chat_template", why); };
  std::string text;
  const auto say = [&text](auto... parts) { (text.append(parts), ...); };
  switch (format_) {
    case Format::none:
      throw refuse("this tokenizer has no chat template; write the prompt as plain text");
    case Format::unknown:
      throw refuse("this tokenizer's chat template is not one of those built in (ChatML, SmolLM, Qwen 2, Llama 3, Zephyr, Llama 2); it begins \"" +
                   text_.substr(0, 80) + "\"; write the prompt as plain text");
    case Format::chatml: {
      if (has_default_system_ && !messages.empty() && messages[0].role != "system") say("<|im_start|>system\n", default_system_, "<|im_end|>\n");
      for (const ChatMessage& message : messages) {
        if (known_roles_only_ && message.role != "system" && message.role != "user" && message.role != "assistant")
          throw refuse("the role \"" + message.role + "\" is not built in for this template; there are system, user and assistant");
        say("<|im_start|>", message.role, "\n", message.content, "<|im_end|>\n");
      }
      if (add_generation_prompt) say("<|im_start|>assistant\n");
      break;
    }
    case Format::llama3: {
      if (!messages.empty()) say(bos_token);
      for (const ChatMessage& message : messages)
        say("<|start_header_id|>", message.role, "<|end_header_id|>\n\n", tokenizer::detail::trimmed(message.content), "<|eot_id|>");
      if (add_generation_prompt) say("<|start_header_id|>assistant<|end_header_id|>\n\n");
      break;
    }
    case Format::zephyr: {
      for (const ChatMessage& message : messages)
        if (message.role == "user" || message.role == "system" || message.role == "assistant")
          say("<|", message.role, "|>\n", message.content, eos_token, "\n");
      if (add_generation_prompt && !messages.empty()) say("<|assistant|>\n");
      break;
    }
    case Format::llama2: {
      const bool system = !messages.empty() && messages[0].role == "system";
      for (std::size_t i = system ? 1 : 0; i < messages.size(); i++) {
        const std::size_t turn = i - (system ? 1 : 0);
        const std::string& role = messages[i].role;
        if ((role == "user") != (turn % 2 == 0) || (role != "user" && role != "assistant"))
          throw refuse("Llama 2 wants user and assistant in turn; message " + std::to_string(i) + " is of \"" + role + "\"");
        if (role == "assistant") {
          say(" ", tokenizer::detail::trimmed(messages[i].content), " ", eos_token);
          continue;
        }
        const std::string content = turn == 0 && system ? "<<SYS>>\n" + messages[0].content + "\n<</SYS>>\n\n" + messages[i].content : messages[i].content;
        say(bos_token, "[INST] ", tokenizer::detail::trimmed(content), " [/INST]");
      }
      break;
    }
  }
  return text;
}

}  // namespace peft
