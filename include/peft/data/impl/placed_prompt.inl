// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/core/error.hpp"
#include "peft/data/impl/encode_examples.inl"
#include "peft/data/impl/formats.inl"
#include "peft/data/placed_prompt.hpp"

namespace peft {

PEFT_INLINE PlacedPrompt::PlacedPrompt(std::string_view token_template, std::int64_t vocab_size)
    : parts_(parse_token_template(token_template)), first_id_(static_cast<std::int32_t>(vocab_size)) {}

PEFT_INLINE std::vector<std::string> PlacedPrompt::fields() const {
  std::vector<std::string> names;
  for (const TemplatePart& part : parts_)
    if (part.kind == TemplatePart::Kind::field && !std::ranges::count(names, part.text)) names.push_back(part.text);
  return names;
}

PEFT_INLINE std::string PlacedPrompt::answer_field() const {
  const auto answer = std::ranges::find(parts_, TemplatePart::Kind::answer, &TemplatePart::kind);
  return answer == parts_.end() ? "" : answer->text;
}

PEFT_INLINE bool PlacedPrompt::all_in_front() const {
  return parts_[0].kind == TemplatePart::Kind::virtual_tokens && parts_[0].count == num_virtual_tokens(parts_);
}

PEFT_INLINE std::vector<PlacedPrompt::Piece> PlacedPrompt::pieces(const RowFields& row, const Tokenizer& tokenizer, std::optional<std::int32_t> mask_id,
                                                                  bool until_answer) const {
  std::vector<Piece> all;
  std::string pending;
  data::detail::PartEncoder encoder(tokenizer);
  std::size_t answer_begin = 0, answer_end = 0;
  const auto add = [&](std::string_view text) {
    if (!text.empty()) encoder.add(text);
  };
  const auto finish_text = [&] {
    add(pending), pending.clear();
    Piece piece{encoder.ids(), std::vector<std::int32_t>(encoder.ids().size(), ignore_index)};
    for (std::size_t i = answer_begin; i < answer_end; i++) {
      piece.labels[i] = piece.ids[i];
      if (mask_id) piece.ids[i] = *mask_id;
    }
    if (!piece.ids.empty()) all.push_back(std::move(piece));
    encoder = data::detail::PartEncoder(tokenizer), answer_begin = answer_end = 0;
  };
  std::int32_t next = first_id_;
  for (const TemplatePart& part : parts_) {
    switch (part.kind) {
      case TemplatePart::Kind::text:
        pending += part.text;
        break;
      case TemplatePart::Kind::field:
        pending += row(part.text);
        break;
      case TemplatePart::Kind::virtual_tokens: {
        finish_text();
        Piece piece{{}, std::vector<std::int32_t>(static_cast<std::size_t>(part.count), ignore_index), false};
        for (std::int64_t i = 0; i < part.count; i++) piece.ids.push_back(next++);
        all.push_back(std::move(piece));
        break;
      }
      case TemplatePart::Kind::answer: {
        // The template's blanks go to the answer: " 42" is a word of most vocabularies.
        const bool after_text = &part != parts_.data() && (&part - 1)->kind == TemplatePart::Kind::text;
        std::size_t kept = pending.size();
        if (after_text)
          for (std::size_t n = (&part - 1)->text.size(); n > 0 && (&part - 1)->text[n - 1] == ' '; n--) kept--;
        add(std::string_view(pending).substr(0, kept));
        if (until_answer) {
          pending.clear(), finish_text();
          return all;
        }
        answer_begin = encoder.ids().size();
        add(pending.substr(kept) + row(part.text));
        answer_end = encoder.ids().size(), pending.clear();
        break;
      }
    }
  }
  finish_text();
  return all;
}

PEFT_INLINE PlacedPrompt::Piece PlacedPrompt::unlearnt(std::vector<std::int32_t> ids) {
  std::vector<std::int32_t> labels(ids.size(), ignore_index);
  return {std::move(ids), std::move(labels), false};
}

/// What is longer than max_length loses the ends of its longest text that is not learnt.
PEFT_INLINE Example PlacedPrompt::joined(std::vector<Piece> all, std::int64_t max_length) {
  std::int64_t length = 0;
  for (const Piece& piece : all) length += static_cast<std::int64_t>(piece.ids.size());
  while (length > max_length) {
    const auto learnt = [](const Piece& piece) { return std::ranges::any_of(piece.labels, [](std::int32_t label) { return label != ignore_index; }); };
    Piece* longest = nullptr;
    for (Piece& piece : all)
      if (piece.text && !piece.ids.empty() && !learnt(piece) && (!longest || piece.ids.size() > longest->ids.size())) longest = &piece;
    if (!longest) break;
    longest->ids.pop_back(), longest->labels.pop_back(), length--;
  }
  Example example;
  for (const Piece& piece : all) {
    example.input_ids.insert(example.input_ids.end(), piece.ids.begin(), piece.ids.end());
    example.labels.insert(example.labels.end(), piece.labels.begin(), piece.labels.end());
  }
  if (length > max_length) example.input_ids.resize(static_cast<std::size_t>(max_length)), example.labels.resize(static_cast<std::size_t>(max_length));
  return example;
}

PEFT_INLINE Example PlacedPrompt::encode(const RowFields& row, const Tokenizer& tokenizer, std::int64_t max_length, std::optional<std::int32_t> mask_id) const {
  std::vector<Piece> all = pieces(row, tokenizer, mask_id, false);
  const bool continued = !mask_id && !answer_field().empty(), ends_with_answer = continued && parts_.back().kind == TemplatePart::Kind::answer;
  data::detail::Surroundings around = data::detail::surroundings(tokenizer, ends_with_answer);
  if (continued && !ends_with_answer) around.after.clear();
  all.insert(all.begin() + (all_in_front() ? 1 : 0), unlearnt(around.before));
  all.push_back(unlearnt(around.after));
  if (ends_with_answer) all.back().labels = around.after;
  return joined(std::move(all), max_length);
}

PEFT_INLINE std::vector<std::int32_t> PlacedPrompt::source(const RowFields& row, const Tokenizer& tokenizer, std::int64_t max_length) const {
  if (!answer_field().empty() && parts_.back().kind != TemplatePart::Kind::answer)
    throw ConfigError("token_template", "something behind {answer}; of an encoder-decoder the answer is what is decoded, and ends the template");
  std::vector<Piece> all = pieces(row, tokenizer, {}, true);
  const data::detail::Surroundings around = data::detail::surroundings(tokenizer, false);
  all.insert(all.begin() + (all_in_front() ? 1 : 0), unlearnt(around.before));
  all.push_back(unlearnt(around.after));
  return joined(std::move(all), max_length).input_ids;
}

PEFT_INLINE Example PlacedPrompt::encode_pair(const RowFields& row, const Tokenizer& tokenizer, std::int64_t max_length) const {
  std::vector<std::int32_t> source = this->source(row, tokenizer, max_length);
  Example pair = encode_text(row(answer_field()), tokenizer);
  pair.source_ids = std::move(source);
  const auto length = static_cast<std::size_t>(max_length);
  if (pair.input_ids.size() > length) pair.input_ids.resize(length), pair.labels.resize(length);
  return pair;
}

PEFT_INLINE std::vector<std::int32_t> PlacedPrompt::question(const RowFields& row, const Tokenizer& tokenizer) const {
  std::vector<std::int32_t> ids = data::detail::surroundings(tokenizer, false).before;
  std::size_t front = 0;
  for (const Piece& piece : pieces(row, tokenizer, {}, true)) {
    if (front == 0 && all_in_front())
      ids.insert(ids.begin(), piece.ids.begin(), piece.ids.end());
    else
      ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
    front++;
  }
  return ids;
}

PEFT_INLINE std::int32_t mask_id(const Tokenizer& tokenizer) {
  for (const char* name : {"[MASK]", "<mask>"})
    if (const auto id = tokenizer.token_to_id(name)) return *id;
  throw ConfigError("mask_id", "this tokenizer has neither [MASK] nor <mask>");
}

PEFT_INLINE Dataset load_placed(const std::string& path, const Tokenizer& tokenizer, const PlacedPrompt& prompt, const PlacedOptions& options) {
  if (options.max_length < 2) throw ConfigError("load_placed", "max_length is " + std::to_string(options.max_length) + "; it must be at least 2");
  if (prompt.answer_field().empty()) throw ConfigError("load_placed", "the template has no {answer}, so there is nothing to learn");
  std::vector<Example> examples;
  DatasetReport report;
  report.format = "placed";
  data::detail::for_each_row(path, [&](const Json& json, const std::string& place) {
    const data::detail::RowReader reader(json, path, place);
    report.rows++;
    const RowFields row = [&](const std::string& name) {
      const Json* value = json.get(name);
      if (value == nullptr || !(value->is_string() || value->is_number())) {
        std::vector<std::string> known;
        for (const auto& [key, other] : json.object()) known.push_back(key);
        throw reader.error("has no text \"" + name + "\", which the template wants" + did_you_mean(name, known, "its fields are"));
      }
      return value->is_string() ? value->string() : value->dump();
    };
    const auto encoded = [&](std::int64_t length) {
      return options.pairs ? prompt.encode_pair(row, tokenizer, length) : prompt.encode(row, tokenizer, length, options.mask_id);
    };
    Example example = encoded(std::int64_t{1} << 40);
    if (static_cast<std::int64_t>(std::max(example.input_ids.size(), example.source_ids.size())) > options.max_length)
      example = encoded(options.max_length), report.truncated++;
    // Without a mask or a source, the first token has nothing before it to be predicted from.
    const std::ptrdiff_t first = example.labels.empty() || options.mask_id || options.pairs ? 0 : 1;
    if (std::all_of(example.labels.begin() + first, example.labels.end(), [](std::int32_t label) { return label == ignore_index; }))
      report.dropped++;
    else
      examples.push_back(std::move(example));
  });
  if (report.rows == 0) throw FormatError(path, -1, "has no rows");
  if (examples.empty())
    throw FormatError(path, -1,
                      "none of the " + std::to_string(report.rows) + " rows has anything to learn within max_length = " + std::to_string(options.max_length));
  return Dataset(std::move(examples), std::move(report));
}

}  // namespace peft
