// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/core/error.hpp"
#include "peft/data/formats.hpp"

namespace peft {
namespace data::detail {

/// Parts of one text as ids, so that every part's end is a border between tokens: the ids of the whole, where its beginning has the
/// same ids within it as alone; else the part is tokenised for itself, as it is when the model continues the beginning.
class PartEncoder {
 public:
  explicit PartEncoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  void add(std::string_view part) {
    text_ += part;
    const auto begin = ids_.begin() + static_cast<std::ptrdiff_t>(start_);
    std::vector<std::int32_t> whole = tokenizer_->encode(text_, {.add_special_tokens = false});
    const auto known = static_cast<std::size_t>(ids_.end() - begin);
    if (whole.size() >= known && std::equal(begin, ids_.end(), whole.begin())) {
      ids_.insert(ids_.end(), whole.begin() + static_cast<std::ptrdiff_t>(known), whole.end());
    } else {
      start_ = ids_.size(), text_ = part;
      whole = tokenizer_->encode(part, {.add_special_tokens = false});
      ids_.insert(ids_.end(), whole.begin(), whole.end());
    }
  }
  std::vector<std::int32_t>& ids() { return ids_; }

 private:
  const Tokenizer* tokenizer_;
  std::string text_;  // whose ids begin at start_
  std::size_t start_ = 0;
  std::vector<std::int32_t> ids_;
};

/// What the tokenizer puts in front of a text and behind it; behind it at least eos, if it `ends`.
struct Surroundings {
  std::vector<std::int32_t> before, after;
};

inline Surroundings surroundings(const Tokenizer& tokenizer, bool ends = true) {
  const auto bare = tokenizer.encode("a", {.add_special_tokens = false}), full = tokenizer.encode("a");
  Surroundings s;
  if (const auto at = std::search(full.begin(), full.end(), bare.begin(), bare.end()); at != full.end()) {
    s.before.assign(full.begin(), at);
    s.after.assign(at + static_cast<std::ptrdiff_t>(bare.size()), full.end());
  }
  if (ends && s.after.empty() && tokenizer.eos_id()) s.after.push_back(*tokenizer.eos_id());
  return s;
}

inline Example surrounded(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids, std::size_t trained_from) {
  const Surroundings around = surroundings(tokenizer);
  Example example;
  example.input_ids = around.before;
  example.input_ids.insert(example.input_ids.end(), ids.begin(), ids.end());
  example.input_ids.insert(example.input_ids.end(), around.after.begin(), around.after.end());
  example.labels = example.input_ids;
  if (trained_from > 0) std::fill_n(example.labels.begin(), around.before.size() + trained_from, ignore_index);
  return example;
}

}  // namespace data::detail

PEFT_INLINE Example encode_text(std::string_view text, const Tokenizer& tokenizer) {
  return data::detail::surrounded(tokenizer, tokenizer.encode(text, {.add_special_tokens = false}), 0);
}

PEFT_INLINE Example encode_pair(std::string_view source, std::string_view target, const Tokenizer& tokenizer) {
  Example pair = encode_text(target, tokenizer);
  pair.source_ids = tokenizer.encode(source);
  return pair;
}

PEFT_INLINE Example encode_answer(std::string_view prompt, std::string_view answer, const Tokenizer& tokenizer, bool train_on_prompt) {
  data::detail::PartEncoder parts(tokenizer);
  parts.add(prompt);
  const std::size_t border = parts.ids().size();
  parts.add(answer);
  return data::detail::surrounded(tokenizer, parts.ids(), train_on_prompt ? 0 : border);
}

PEFT_INLINE Example encode_conversation(const std::vector<TrainingMessage>& messages, const Tokenizer& tokenizer, bool train_on_prompt) {
  std::vector<ChatMessage> chat;
  for (const TrainingMessage& message : messages) chat.push_back({message.role, message.content});
  data::detail::PartEncoder parts(tokenizer);
  std::vector<std::pair<std::size_t, std::size_t>> trained;  // ranges of ids
  std::string done;
  const auto advance = [&](const std::string& text) {
    if (!text.starts_with(done))
      throw ConfigError("encode_conversation",
                        "this chat template writes earlier messages differently once others follow; only single answers can be trained with it");
    parts.add(std::string_view(text).substr(done.size()));
    done = text;
  };
  for (std::size_t i = 0; i < messages.size(); i++) {
    if (messages[i].role != "assistant") continue;
    advance(tokenizer.apply_chat(std::span(chat).first(i), true));
    const std::size_t begin = parts.ids().size();
    advance(tokenizer.apply_chat(std::span(chat).first(i + 1), false));
    // The answer ends with the last special token of its turn; a newline behind that belongs to the format.
    std::size_t end = parts.ids().size();
    while (end > begin && !tokenizer.is_special(parts.ids()[end - 1])) end--;
    if (end == begin) end = parts.ids().size();
    if (messages[i].train) trained.emplace_back(begin, end);
  }
  Example example;
  example.input_ids = std::move(parts.ids());
  if (train_on_prompt) {
    example.labels = example.input_ids;
    return example;
  }
  example.labels.assign(example.input_ids.size(), ignore_index);
  for (const auto& [begin, end] : trained)
    std::copy_n(example.input_ids.begin() + static_cast<std::ptrdiff_t>(begin), end - begin, example.labels.begin() + static_cast<std::ptrdiff_t>(begin));
  return example;
}

}  // namespace peft
