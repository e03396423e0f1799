// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "peft/core/config.hpp"

namespace peft {

/// Chat templates for models whose files have none: alpaca, chatglm (ChatGLM-6B), chatglm2, chatglm3, chatml, llama2, llama3, qwen (Qwen2.5's, with its
/// default system prompt), zephyr. They write what the models' own do, and refuse (ConfigError) a role that these would leave out.
const std::vector<std::string>& builtin_chat_templates();

/// The text of one of them. Throws ConfigError for any other name.
std::string builtin_chat_template(std::string_view name);

/// The half-width marks , ! : ; ? beside a Chinese character (U+4E00 to U+9FFF) become full-width ones, as ChatGLM's own chat writes its answers.
std::string full_width_punctuation(std::string_view text);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/builtin_templates.inl"
#endif
