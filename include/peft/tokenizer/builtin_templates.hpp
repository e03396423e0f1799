// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "peft/core/config.hpp"

namespace peft {

/// Chat templates of models whose files have none: "chatglm" (ChatGLM-6B), "chatglm2", "chatglm3". Empty for any other name.
std::string builtin_chat_template(std::string_view name);

/// The half-width marks , ! : ; ? beside a Chinese character (U+4E00 to U+9FFF) become full-width ones, as ChatGLM's own chat writes its answers.
std::string full_width_punctuation(std::string_view text);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/builtin_templates.inl"
#endif
