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
  std::int64_t max_length = 512;         // tokens, of each side of a pair; what is longer is cut at its end
  std::string format = "auto";           // auto, messages, instruction, prompt_completion, question_answer, input_target, text
  std::string prompt_template = "auto";  // auto, chat (the tokenizer's own), or what PromptTemplate takes
  std::string system_prompt = {};        // in front of every conversation that has none of its own
  bool train_on_prompt = false;          // learn the whole sequence, not only the answers
  bool pairs = false;                    // for an encoder-decoder: what stands ahead of the answer is a source of its own
};

/// Throws ConfigError for a length below 2, an unknown format, an unusable template, or train_on_prompt with pairs.
void validate(const DatasetOptions& options);

/// Reads rows from JSON lines or a JSON list. What a row has, from the first row unless `format` says it:
///
///     {"messages": [{"role", "content"}, …]}, also {"conversations": [{"from", "value"}, …]}    messages
///     {"instruction", "input" (may be missing), "output"}                                      instruction
///     {"prompt", "completion" (or "response")}                                                 prompt_completion
///     {"question", "answer"}                                                                   question_answer
///     {"input", "target"}                                                                      input_target
///     {"text"}                                                                                 text: every token is learnt
///
/// and, where wanted, "system". Other fields are passed over. Instructions go through the tokenizer's chat template if it has one (`prompt_template` "auto"),
/// else through PromptTemplate ("alpaca" for instruction, "question" for question_answer, "plain" for the others). Labels are on each answer
/// and the token that ends it. Throws FormatError that names the line and the field.
///
/// With `pairs`, the encoder reads the prompt, as encode_prompt makes it, and the decoder learns the answer and eos. The default template is "plain" then
/// for every format. Of a conversation, the last answer is learnt from all that stands ahead of it. Throws NotSupported for rows of text, which
/// have no source.
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

/// A pair: the source as the tokenizer encodes a prompt, the target with eos behind, every token of it learnt.
Example encode_pair(std::string_view source, std::string_view target, const Tokenizer& tokenizer);

/// A text to learn as a whole, with bos and eos as in encode_answer.
Example encode_text(std::string_view text, const Tokenizer& tokenizer);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/data/impl/encode_examples.inl"
#include "peft/data/impl/formats.inl"
#endif
