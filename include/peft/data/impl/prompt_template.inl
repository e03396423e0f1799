// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/core/error.hpp"
#include "peft/data/prompt_template.hpp"

namespace peft {

PEFT_INLINE PromptTemplate::PromptTemplate(std::string_view name_or_text) {
  if (name_or_text == "plain") {
    without_input_ = "{instruction}{output}";
    with_input_ = "{instruction}\n{input}{output}";
  } else if (name_or_text == "question") {
    without_input_ = with_input_ = "Question: {instruction}\nAnswer: {output}";
  } else if (name_or_text == "alpaca") {
    without_input_ =
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Response:\n{output}";
    with_input_ =
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n{output}";
  } else if (name_or_text == "chatglm") {
    without_input_ = with_input_ = "[Round 1]\n问：{instruction}{input}\n答：[gMASK]<sop>{output}";
  } else if (name_or_text == "chatglm2") {
    without_input_ = with_input_ = "[Round 1]\n\n问：{instruction}{input}\n\n答：{output}";
  } else if (name_or_text == "chatglm3") {
    without_input_ = with_input_ = "<|user|>\n {instruction}{input}<|assistant|>\n {output}";
  } else {
    without_input_ = with_input_ = std::string(name_or_text);
    if (name_or_text.find("{instruction}") == name_or_text.npos)
      throw ConfigError("prompt_template", "\"" + std::string(name_or_text) +
                                               "\" is neither plain, alpaca, question, chatglm, chatglm2 or chatglm3 nor a text with {instruction}");
    const std::size_t output = name_or_text.find("{output}");
    if (output != name_or_text.npos && output + std::string_view("{output}").size() != name_or_text.size())
      throw ConfigError("prompt_template", "\"" + std::string(name_or_text) + "\" has text behind {output}; the answer must end it");
    if (output == name_or_text.npos) without_input_ = with_input_ += "{output}";
  }
}

PEFT_INLINE PromptTemplate::Parts PromptTemplate::render(std::string_view instruction, std::string_view input, std::string_view output) const {
  const std::string& pattern = input.empty() ? without_input_ : with_input_;
  const bool has_place = pattern.find("{input}") != pattern.npos;
  Parts parts;
  for (std::size_t at = 0; at < pattern.size();) {
    const std::string_view rest = std::string_view(pattern).substr(at);
    if (rest.starts_with("{instruction}")) {
      parts.prompt += instruction;
      if (!has_place && !input.empty()) parts.prompt.append("\n").append(input);
      at += std::string_view("{instruction}").size();
    } else if (rest.starts_with("{input}")) {
      parts.prompt += input;
      at += std::string_view("{input}").size();
    } else if (rest == "{output}") {
      // Only spaces of the template move; those that end an instruction are the user's.
      for (std::size_t i = at; i > 0 && pattern[i - 1] == ' '; i--) parts.prompt.pop_back(), parts.answer += ' ';
      parts.answer += output;
      break;
    } else {
      parts.prompt += rest[0];
      at++;
    }
  }
  return parts;
}

}  // namespace peft
