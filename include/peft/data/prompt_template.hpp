// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "peft/core/config.hpp"

namespace peft {

/// How an instruction is written for a model that has no chat format. A text with {instruction}, and where wanted {input} and, at its end,
/// {output}: `Question: {instruction}\nAnswer: {output}`.
class PromptTemplate {
 public:
  /// What is sent to the model, and what it is to answer.
  struct Parts {
    std::string prompt, answer;
  };

  /// "plain" (the instruction, then the answer, nothing around them), "alpaca" (Taori et al. 2023: ### Instruction, ### Input, ### Response),
  /// "question" (Question: …, Answer: …), "chatglm", "chatglm2" and "chatglm3" (one round as these were fine-tuned, special tokens and all), or such a text.
  /// Throws ConfigError for a text without {instruction}, or with something behind {output}.
  explicit PromptTemplate(std::string_view name_or_text);

  /// Spaces that stand in front of {output} go to the answer: " 42" is a word of most vocabularies, a space alone is not. An input that has no place in
  /// the template follows the instruction on a new line.
  Parts render(std::string_view instruction, std::string_view input = "", std::string_view output = "") const;

 private:
  std::string with_input_, without_input_;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/data/impl/prompt_template.inl"
#endif
