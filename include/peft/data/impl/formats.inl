// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <optional>

#include "peft/core/error.hpp"
#include "peft/data/formats.hpp"
#include "peft/data/prompt_template.hpp"
#include "peft/io/json.hpp"

namespace peft {
namespace data::detail {

enum class RowKind { messages, instruction, prompt_completion, question_answer, input_target, text };

struct RowFormat {
  RowKind kind;
  const char* name;
  const char* fields;            // said in errors
  const char* default_template;  // for a tokenizer without a chat template
};
inline constexpr std::array<RowFormat, 6> row_formats = {{
    {RowKind::messages, "messages", R"("messages": [{"role", "content"}, …] or "conversations": [{"from", "value"}, …])", "question"},
    {RowKind::instruction, "instruction", R"("instruction", "output" and perhaps "input")", "alpaca"},
    {RowKind::prompt_completion, "prompt_completion", R"("prompt" and "completion" (or "response"))", "plain"},
    {RowKind::question_answer, "question_answer", R"("question" and "answer")", "question"},
    {RowKind::input_target, "input_target", R"("input" and "target")", "plain"},
    {RowKind::text, "text", R"("text")", "plain"},
}};

/// A row read: either a text, or a conversation, or an instruction with its answer.
struct Row {
  std::vector<TrainingMessage> messages;
  std::string instruction, input, answer, system;
};

/// One row of the file, for errors: every one names the file, the line (or the place in the list) and the field.
class RowReader {
 public:
  RowReader(const Json& json, const std::string& path, std::string place) : json_(json), path_(path), place_(std::move(place)) {
    if (!json.is_object()) throw error("is not an object {…}");
  }
  FormatError error(const std::string& what) const { return FormatError(path_, -1, place_ + " " + what); }
  bool has(const char* key) const { return json_.get(key) != nullptr && !json_.get(key)->is_null(); }

  std::string text(const Json& owner, const char* key, const RowFormat& format) const {
    const Json* const value = owner.get(key);
    if (value == nullptr) throw error("has no field \"" + std::string(key) + "\"; a row of the format " + format.name + " has " + format.fields);
    if (!value->is_string())
      throw error("has a field \"" + std::string(key) + "\" that is not a text; a row of the format " + format.name + " has " + format.fields);
    return value->string();
  }
  std::string text(const char* key, const RowFormat& format) const { return text(json_, key, format); }

  const RowFormat& detect() const {
    const auto pick = [](RowKind kind) -> const RowFormat& { return row_formats[static_cast<std::size_t>(kind)]; };
    if (has("messages") || has("conversations")) return pick(RowKind::messages);
    if (has("instruction") && has("output")) return pick(RowKind::instruction);
    if (has("prompt") && (has("completion") || has("response"))) return pick(RowKind::prompt_completion);
    if (has("question") && has("answer")) return pick(RowKind::question_answer);
    if (has("input") && has("target")) return pick(RowKind::input_target);
    if (has("text")) return pick(RowKind::text);
    std::string found, known;
    for (const auto& [key, value] : json_.object()) found += (found.empty() ? "\"" : ", \"") + key + "\"";
    for (const RowFormat& format : row_formats) known += std::string(known.empty() ? "" : "; ") + format.name + ": " + format.fields;
    throw error("has the fields " + (found.empty() ? "(none)" : found) + ", which is none of the formats. " + known);
  }

  Row read(const RowFormat& format) const {
    Row row;
    if (has("system") && json_.get("system")->is_string()) row.system = json_.get("system")->string();
    switch (format.kind) {
      case RowKind::messages:
        row.messages = messages(format);
        break;
      case RowKind::instruction:
        row.instruction = text("instruction", format), row.answer = text("output", format);
        if (has("input")) row.input = text("input", format);
        break;
      case RowKind::prompt_completion:
        row.instruction = text("prompt", format);
        row.answer = text(has("completion") || !has("response") ? "completion" : "response", format);
        break;
      case RowKind::question_answer:
        row.instruction = text("question", format), row.answer = text("answer", format);
        break;
      case RowKind::input_target:
        row.instruction = text("input", format), row.answer = text("target", format);
        break;
      case RowKind::text:
        row.answer = text("text", format);
        break;
    }
    return row;
  }

 private:
  std::vector<TrainingMessage> messages(const RowFormat& format) const {
    const Json* list = json_.get(has("messages") ? "messages" : "conversations");
    if (list == nullptr || !list->is_array()) throw error("has no list of messages; a row of the format messages has " + std::string(format.fields));
    std::vector<TrainingMessage> all;
    for (const Json& item : list->array()) {
      const std::string which = "message " + std::to_string(all.size());
      if (!item.is_object()) throw error("has a " + which + " that is not an object {…}");
      TrainingMessage message;
      message.role = text(item, item.contains("role") ? "role" : "from", format);
      if (message.role == "human") message.role = "user";
      if (message.role == "gpt") message.role = "assistant";
      if (message.role != "system" && message.role != "user" && message.role != "assistant")
        throw error("has a " + which + " of the role \"" + message.role + "\"; allowed are system, user (or human) and assistant (or gpt)");
      const char* const key = item.contains("content") ? "content" : "value";
      if (const Json* content = item.get(key); content != nullptr && content->is_array())
        message.content = parts_of(*content, which);
      else
        message.content = text(item, key, format);
      if (const Json* weight = item.get("loss_weight"); weight != nullptr && weight->is_number()) message.train = weight->number() > 0;
      all.push_back(std::move(message));
    }
    return all;
  }
  /// A content in parts: [{"type": "text", "text" (or "value"): …}].
  std::string parts_of(const Json& list, const std::string& which) const {
    std::string whole;
    for (const Json& part : list.array()) {
      const Json* value = part.get("text") != nullptr ? part.get("text") : part.get("value");
      const Json* type = part.get("type");
      if (value == nullptr || !value->is_string() || (type != nullptr && (!type->is_string() || type->string() != "text")))
        throw error("has a " + which + " with a part that is not {\"type\": \"text\", \"text\": …}; only texts can be learnt");
      whole += value->string();
    }
    return whole;
  }

  const Json& json_;
  const std::string& path_;
  std::string place_;
};

/// Calls f(json, place) for each row: of a JSON list, or of each line.
template <class F>
void for_each_row(const std::string& path, F f) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FormatError(path, -1, "cannot be opened");
  char first = 0;
  while (file.get(first) && (first == ' ' || first == '\n' || first == '\r' || first == '\t')) {
  }
  if (first == '[') {
    const Json list = Json::read(path);
    std::size_t number = 0;
    for (const Json& row : list.array()) f(row, "row " + std::to_string(++number));
    return;
  }
  file.clear(), file.seekg(0);
  std::string line;
  for (std::int64_t number = 1; std::getline(file, line); number++) {
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    f(Json::parse(line, path + ", line " + std::to_string(number)), "line " + std::to_string(number));
  }
}

/// Rows to examples, by the options.
class ExampleMaker {
 public:
  ExampleMaker(const Tokenizer& tokenizer, const DatasetOptions& options) : tokenizer_(tokenizer), options_(options) {
    chat_ = options.prompt_template == "chat" || (options.prompt_template == "auto" && tokenizer.chat_template().format() != ChatTemplate::Format::none);
    if (!chat_ && options.prompt_template != "auto") template_.emplace(options.prompt_template);
  }

  Example make(Row row, const RowFormat& format) {
    if (format.kind == RowKind::text) {
      if (options_.pairs) throw NotSupported("load_dataset", "rows of the format text for an encoder-decoder; they have nothing that its encoder could read");
      return encode_text(row.answer, tokenizer_);
    }
    if (row.system.empty()) row.system = options_.system_prompt;
    if (!chat_ && !template_) template_.emplace(options_.pairs ? "plain" : format.default_template);
    if (format.kind != RowKind::messages) {
      if (!chat_) {
        const PromptTemplate::Parts parts = template_->render(row.instruction, row.input, row.answer);
        const std::string prompt = row.system.empty() ? parts.prompt : row.system + "\n\n" + parts.prompt;
        return options_.pairs ? encode_pair(prompt, parts.answer, tokenizer_) : encode_answer(prompt, parts.answer, tokenizer_, options_.train_on_prompt);
      }
      row.messages = {{"user", row.instruction}, {"assistant", row.answer}};
      if (!row.input.empty() && tokenizer_.chat_template().has_inputs())
        row.messages.insert(row.messages.begin() + 1, {"input", row.input});
      else if (!row.input.empty())
        row.messages[0].content += "\n" + row.input;
    }
    if (!row.system.empty() && (row.messages.empty() || row.messages[0].role != "system")) row.messages.insert(row.messages.begin(), {"system", row.system});
    if (options_.pairs) return last_answer(std::move(row.messages));
    return chat_ ? encode_conversation(row.messages, tokenizer_, options_.train_on_prompt) : plain_conversation(row.messages);
  }

 private:
  /// A conversation as a pair: its last answer from all that stands ahead, through the chat template or, without one, a paragraph each. Nothing if that
  /// answer is not to be learnt.
  Example last_answer(std::vector<TrainingMessage> messages) const {
    while (!messages.empty() && messages.back().role != "assistant") messages.pop_back();
    if (messages.empty() || !messages.back().train) return {};
    const TrainingMessage answer = std::move(messages.back());
    messages.pop_back();
    if (chat_) {
      std::vector<ChatMessage> ahead;
      for (const TrainingMessage& message : messages) ahead.push_back({message.role, message.content});
      Example example = encode_text(answer.content, tokenizer_);
      example.source_ids = tokenizer_.encode(tokenizer_.apply_chat(ahead), {.add_special_tokens = false});
      return example;
    }
    std::string ahead, last;
    if (!messages.empty()) last = messages.back().content;
    for (std::size_t i = 0; i + 1 < messages.size(); i++) ahead += messages[i].content + "\n\n";
    const PromptTemplate::Parts parts = template_->render(last, "", answer.content);
    return encode_pair(ahead + parts.prompt, parts.answer, tokenizer_);
  }
  /// For a tokenizer without a chat template: each turn through the prompt template, every answer closed by eos.
  Example plain_conversation(const std::vector<TrainingMessage>& messages) const {
    Example whole;
    std::string ahead;
    for (std::size_t i = 0; i < messages.size(); i++) {
      if (messages[i].role != "assistant") {
        const bool question = messages[i].role == "user" && i + 1 < messages.size() && messages[i + 1].role == "assistant";
        if (!question) ahead += messages[i].content + "\n\n";
        if (!question) continue;
      }
      const bool answers = messages[i].role == "user";
      const TrainingMessage& answer = messages[answers ? i + 1 : i];
      const PromptTemplate::Parts parts = answers ? template_->render(messages[i].content, "", answer.content) : PromptTemplate::Parts{"", answer.content};
      Example turn = encode_answer(ahead + parts.prompt, parts.answer, tokenizer_, options_.train_on_prompt);
      if (!answer.train) std::fill(turn.labels.begin(), turn.labels.end(), ignore_index);
      std::size_t skip = 0;  // bos begins the conversation, not each turn
      if (!whole.input_ids.empty() && tokenizer_.bos_id() && turn.input_ids[0] == *tokenizer_.bos_id()) skip = 1;
      whole.input_ids.insert(whole.input_ids.end(), turn.input_ids.begin() + static_cast<std::ptrdiff_t>(skip), turn.input_ids.end());
      whole.labels.insert(whole.labels.end(), turn.labels.begin() + static_cast<std::ptrdiff_t>(skip), turn.labels.end());
      ahead.clear();
      if (answers) i++;
    }
    return whole;
  }

  const Tokenizer& tokenizer_;
  const DatasetOptions& options_;
  bool chat_ = false;
  std::optional<PromptTemplate> template_;
};

inline const RowFormat* format_named(const std::string& name) {
  std::vector<std::string> known = {"auto"};
  for (const RowFormat& format : row_formats) {
    if (name == format.name) return &format;
    known.emplace_back(format.name);
  }
  if (name != "auto") throw ConfigError("load_dataset", "format \"" + name + "\" is unknown" + did_you_mean(name, known, "there are"));
  return nullptr;
}

}  // namespace data::detail

PEFT_INLINE void validate(const DatasetOptions& options) {
  if (options.max_length < 2) throw ConfigError("load_dataset", "max_length is " + std::to_string(options.max_length) + "; it must be at least 2");
  data::detail::format_named(options.format);
  if (options.pairs && options.train_on_prompt)
    throw ConfigError("load_dataset", "train_on_prompt with pairs; an encoder reads the prompt, and predicts nothing of it");
  if (options.prompt_template != "auto" && options.prompt_template != "chat") PromptTemplate{options.prompt_template};
}

PEFT_INLINE Dataset load_dataset(const std::string& path, const Tokenizer& tokenizer, const DatasetOptions& options) {
  validate(options);
  const data::detail::RowFormat* format = data::detail::format_named(options.format);
  data::detail::ExampleMaker maker(tokenizer, options);
  std::vector<Example> examples;
  DatasetReport report;
  data::detail::for_each_row(path, [&](const Json& json, const std::string& place) {
    const data::detail::RowReader reader(json, path, place);
    if (format == nullptr) format = &reader.detect();
    report.rows++;
    Example example = maker.make(reader.read(*format), *format);
    const auto length = static_cast<std::size_t>(options.max_length);
    if (example.input_ids.size() > length || example.source_ids.size() > length) report.truncated++;
    if (example.input_ids.size() > length) example.input_ids.resize(length), example.labels.resize(length);
    if (example.source_ids.size() > length) {  // what ends every source ends this one, too
      const std::int32_t last = example.source_ids.back();
      example.source_ids.resize(length);
      if (tokenizer.is_special(last)) example.source_ids.back() = last;
    }
    // Without a source, the first token has nothing before it to be predicted from.
    const std::ptrdiff_t first = example.labels.empty() || options.pairs ? 0 : 1;
    const bool nothing = options.pairs && example.source_ids.empty();
    if (nothing || std::all_of(example.labels.begin() + first, example.labels.end(), [](std::int32_t label) { return label == ignore_index; }))
      report.dropped++;
    else
      examples.push_back(std::move(example));
  });
  if (report.rows == 0) throw FormatError(path, -1, "has no rows");
  if (examples.empty())
    throw FormatError(path, -1,
                      "none of the " + std::to_string(report.rows) + " rows has anything to learn within max_length = " + std::to_string(options.max_length));
  report.format = format->name;
  return Dataset(std::move(examples), std::move(report));
}

}  // namespace peft
