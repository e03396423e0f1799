// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "peft/core/error.hpp"
#include "peft/tokenizer/builtin_templates.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft {

namespace tokenizer::detail {

struct BuiltinTemplate {
  const char* name;
  const char* text;
};
/// By name.
inline constexpr std::array<BuiltinTemplate, 9> builtin_templates = {{
    // Taori et al. 2023; a further round follows what ends an answer
    {"alpaca", R"({%- set instructed = messages[0]['role'] == 'system' -%}
{%- for message in (messages[1:] if instructed else messages) -%}
{%- set before = 'assistant' if loop.first else loop.previtem['role'] -%}
{%- if message['role'] == 'user' and before == 'assistant' -%}
{%- if loop.first -%}
{{- bos_token -}}
{%- if instructed -%}
{{- messages[0]['content'] -}}
{%- else -%}
{%- set paired = loop.nextitem is defined and loop.nextitem['role'] == 'input' -%}
{{- 'Below is an instruction that describes a task' ~ (', paired with an input that provides further context' if paired else '') -}}
{{- '. Write a response that appropriately completes the request.' -}}
{%- endif -%}
{%- endif -%}
{{- '\n\n### Instruction:\n' ~ message['content'] -}}
{%- elif message['role'] == 'input' and before == 'user' -%}
{{- '\n\n### Input:\n' ~ message['content'] -}}
{%- elif message['role'] == 'assistant' and before in ['user', 'input'] -%}
{{- '\n\n### Response:\n' ~ message['content'] ~ eos_token -}}
{%- else -%}
{{- raise_exception('Alpaca: user, perhaps input, and assistant must alternate, behind at most one system message; ' ~ message['role'] ~ ' stands wrong') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '\n\n### Response:\n' -}}{%- endif -%})"},
    // A first question stands alone. Here and in the next two, an answer that ends the conversation is followed by what ends it: it is one to learn from
    {"chatglm", R"({%- set answered = not add_generation_prompt and messages[-1]['role'] == 'assistant' -%}
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
{%- if answered -%}{{- messages[-1]['content'] ~ '<eop>' -}}{%- endif -%})"},
    {"chatglm2", R"({{- '[gMASK]<sop>' -}}
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
{%- endfor -%})"},
    // Its answers begin with the line end that stands in front of them here
    {"chatglm3", R"({{- '[gMASK]<sop>' -}}
{%- for message in messages -%}
{%- set content = message['content'] | trim if message['role'] == 'assistant' else message['content'] -%}
{{- '<|' ~ message['role'] ~ '|>\n ' ~ content -}}
{%- if loop.last and message['role'] == 'assistant' and not add_generation_prompt -%}{{- eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%})"},
    {"chatml", R"({%- for message in messages -%}
{{- '<|im_start|>' ~ message['role'] ~ '\n' ~ message['content'] ~ '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%})"},
    {"llama2", R"({%- set instructed = messages[0]['role'] == 'system' -%}
{%- for message in (messages[1:] if instructed else messages) -%}
{%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
{{- raise_exception('Llama 2: roles must alternate user/assistant/user/assistant, behind at most one system message; ' ~ message['role'] ~ ' stands wrong') -}}
{%- endif -%}
{%- if message['role'] == 'user' -%}
{%- set system = '<<SYS>>\n' ~ messages[0]['content'] ~ '\n<</SYS>>\n\n' if instructed and loop.first else '' -%}
{{- bos_token ~ '[INST] ' ~ (system ~ message['content']) | trim ~ ' [/INST]' -}}
{%- else -%}
{{- ' ' ~ message['content'] | trim ~ ' ' ~ eos_token -}}
{%- endif -%}
{%- endfor -%})"},
    {"llama3", R"({%- for message in messages -%}
{{- bos_token if loop.first else '' -}}
{{- '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\n\n' ~ message['content'] | trim ~ '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%})"},
    // Qwen2.5: several answers of tools are one turn of the user
    {"qwen", R"({%- if tools -%}{{- raise_exception('Qwen: this template has no words for tools; the one that comes with the model has') -}}{%- endif -%}
{%- if messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] in ['system', 'user', 'assistant'] -%}
{{- '<|im_start|>' ~ message['role'] ~ '\n' ~ message['content'] ~ '<|im_end|>\n' -}}
{%- elif message['role'] == 'tool' -%}
{{- '' if loop.previtem is defined and loop.previtem['role'] == 'tool' else '<|im_start|>user' -}}
{{- '\n<tool_response>\n' ~ message['content'] ~ '\n</tool_response>' -}}
{{- '' if loop.nextitem is defined and loop.nextitem['role'] == 'tool' else '<|im_end|>\n' -}}
{%- else -%}
{{- raise_exception('Qwen knows system, user, assistant and tool, not ' ~ message['role']) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%})"},
    {"zephyr", R"({%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant'] -%}
{{- raise_exception('Zephyr knows system, user and assistant, not ' ~ message['role']) -}}
{%- endif -%}
{{- '<|' ~ message['role'] ~ '|>\n' ~ message['content'] ~ eos_token ~ '\n' -}}
{{- '<|assistant|>\n' if loop.last and add_generation_prompt else '' -}}
{%- endfor -%})"},
}};

}  // namespace tokenizer::detail

PEFT_INLINE const std::vector<std::string>& builtin_chat_templates() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& one : tokenizer::detail::builtin_templates) all.emplace_back(one.name);
    return all;
  }();
  return names;
}

PEFT_INLINE std::string builtin_chat_template(std::string_view name) {
  for (const auto& one : tokenizer::detail::builtin_templates)
    if (name == one.name) return one.text;
  throw ConfigError("chat_template", "\"" + std::string(name) + "\" is no built-in template" + did_you_mean(name, builtin_chat_templates(), "there are"));
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
