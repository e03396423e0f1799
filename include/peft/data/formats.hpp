// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "peft/data/example.hpp"
#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

struct DatasetOptions {
  std::int64_t max_length = 512;         // tokens; what is longer is cut at its end
  std::string format = "auto";           // auto, messages, instruction, prompt_completion, question_answer, text
  std::string prompt_template = "auto";  // auto, chat (the tokenizer's own), or what PromptTemplate takes
  std::string system_prompt = {};        // in front of every conversation that has none of its own
  bool train_on_prompt = false;          // learn the whole sequence, not only the answers
};

/// Throws ConfigError for a length below 2, an unknown format, or an unusable template.
void validate(const DatasetOptions& options);

/// Reads rows from JSON lines or a JSON list. What a row has, from the first row unless `format` says it:
///
///     {"messages": [{"role", "content"}, …]}, also {"conversations": [{"from", "value"}, …]}    messages
///     {"instruction", "input" (may be missing), "output"}                                      instruction
///     {"prompt", "completion" (or "response")}                                                 prompt_completion
///     {"question", "answer"}                                                                   question_answer
///     {"text"}                                                                                 text: every token is learnt
///
/// and, where wanted, "system". Other fields are passed over. Instructions go through the tokenizer's chat template if it has one (`prompt_template` "auto"),
/// else through PromptTemplate ("alpaca" for instruction, "question" for question_answer, "plain" for prompt_completion). Labels are on each answer
/// and the token that ends it. Throws FormatError that names the line and the field.
Dataset load_dataset(const std::string& path, const Tokenizer& tokenizer, const DatasetOptions& options = {});

/// One message; `train` says whether an assistant's message is learnt.
struct TrainingMessage {
  std::string role, content;
  bool train = true;
};

/// A conversation through the tokenizer's chat template. Where the text ahead of an answer is tokenised alone as it is within the whole, the ids are those of
/// the whole; else it is cut there, as it is when the model is asked. Throws ConfigError if the template is not known.
Example encode_conversation(const std::vector<TrainingMessage>& messages, const Tokenizer& tokenizer, bool train_on_prompt = false);

/// A prompt and the answer to learn, with bos in front if the tokenizer has one and eos behind.
Example encode_answer(std::string_view prompt, std::string_view answer, const Tokenizer& tokenizer, bool train_on_prompt = false);

/// A text to learn as a whole, with bos and eos as in encode_answer.
Example encode_text(std::string_view text, const Tokenizer& tokenizer);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/data/impl/encode_examples.inl"
#include "peft/data/impl/formats.inl"
#endif
