// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "peft/tokenizer/builtin_templates.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft {

PEFT_INLINE std::string builtin_chat_template(std::string_view name) {
  // An answer that ends the conversation is followed by what ends it: it is one to learn from.
  if (name == "chatglm")  // a first question stands alone
    return R"({%- set answered = not add_generation_prompt and messages[-1]['role'] == 'assistant' -%}
{%- set context = messages[:-1] if answered else messages -%}
{%- if context | length == 1 -%}
{{- context[0]['content'] -}}
{%- else -%}
{%- set round = namespace(n=0) -%}
{%- for message in context -%}
{%- if message['role'] == 'user' -%}
{{- '[Round ' ~ round.n ~ ']\n问：' ~ message['content'] ~ '\n答：' -}}
{%- set round.n = round.n + 1 -%}
{%- elif message['role'] == 'assistant' -%}
{{- message['content'] ~ '\n' -}}
{%- else -%}
{{- raise_exception('ChatGLM-6B knows user and assistant, not ' ~ message['role']) -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '[gMASK]<sop>' -}}
{%- if answered -%}{{- messages[-1]['content'] ~ '<eop>' -}}{%- endif -%})";
  if (name == "chatglm2")
    return R"({{- '[gMASK]<sop>' -}}
{%- set round = namespace(n=0) -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{%- set round.n = round.n + 1 -%}
{{- '[Round ' ~ round.n ~ ']\n\n问：' ~ message['content'] ~ '\n\n答：' -}}
{%- elif message['role'] == 'assistant' -%}
{{- message['content'] -}}
{{- eos_token if loop.last and not add_generation_prompt else '\n\n' -}}
{%- else -%}
{{- raise_exception('ChatGLM2 knows user and assistant, not ' ~ message['role']) -}}
{%- endif -%}
{%- endfor -%})";
  if (name == "chatglm3")  // its answers begin with the line end that stands in front of them here
    return R"({{- '[gMASK]<sop>' -}}
{%- for message in messages -%}
{%- set content = message['content'] | trim if message['role'] == 'assistant' else message['content'] -%}
{{- '<|' ~ message['role'] ~ '|>\n ' ~ content -}}
{%- if loop.last and message['role'] == 'assistant' and not add_generation_prompt -%}{{- eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%})";
  return {};
}

PEFT_INLINE std::string full_width_punctuation(std::string_view text) {
  constexpr std::array<std::pair<char, const char*>, 5> marks = {{{',', "，"}, {'!', "！"}, {':', "："}, {';', "；"}, {'?', "？"}}};
  const auto is_chinese = [](const unicode::Character& c) { return c.valid && c.value >= 0x4E00 && c.value <= 0x9FFF; };
  std::string result;
  bool behind_chinese = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto character = unicode::decode(text, at);
    const std::size_t next = at + character.length;
    const auto mark = std::ranges::find(marks, text[at], &std::pair<char, const char*>::first);
    const bool beside = behind_chinese || (next < text.size() && is_chinese(unicode::decode(text, next)));
    if (mark != marks.end() && beside)
      result += mark->second;
    else
      result += text.substr(at, character.length);
    behind_chinese = is_chinese(character), at = next;
  }
  return result;
}

}  // namespace peft
