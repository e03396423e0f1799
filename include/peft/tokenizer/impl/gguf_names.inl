// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a GGUF file says by a name, as tokenizer.json spells it out: for who reads such a file, and for who writes it as tokenizer.json.

#include <string>
#include <string_view>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"

namespace peft::tokenizer::detail {

/// `tokenizer.ggml.pre`: how a byte-level BPE cuts its text, and what else is usual for its family.
struct GgufPre {
  Json pre_tokenizer;
  bool nfc = false, ignore_merges = false, add_bos = false;
};

inline Json split_step(std::string_view regex) {
  Json pattern = Json::make_object(), split = Json::make_object();
  pattern.set("Regex", Json(std::string(regex)));
  split.set("type", Json("Split")), split.set("pattern", std::move(pattern)), split.set("behavior", Json("Isolated")), split.set("invert", Json(false));
  return split;
}
inline Json byte_level_step(bool use_regex) {
  Json step = Json::make_object();
  step.set("type", Json("ByteLevel")), step.set("add_prefix_space", Json(false)), step.set("trim_offsets", Json(true)), step.set("use_regex", Json(use_regex));
  return step;
}
inline Json sequence_of(const std::vector<Json>& steps) {
  Json list = Json::make_array(), sequence = Json::make_object();
  for (const Json& step : steps) list.push_back(step);
  sequence.set("type", Json("Sequence")), sequence.set("pretokenizers", std::move(list));
  return sequence;
}

/// Throws Error for a name that is not known.
inline GgufPre gguf_pre(const std::string& name) {
  constexpr std::string_view gpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  constexpr std::string_view llama3 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  constexpr std::string_view qwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  if (name == "gpt-2") return {.pre_tokenizer = byte_level_step(true)};
  if (name == "smollm") {
    Json digits = Json::make_object();
    digits.set("type", Json("Digits")), digits.set("individual_digits", Json(true));
    return {.pre_tokenizer = sequence_of({digits, byte_level_step(true)})};
  }
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3")
    return {.pre_tokenizer = sequence_of({split_step(llama3), byte_level_step(false)}), .ignore_merges = true, .add_bos = true};
  if (name == "qwen2") return {.pre_tokenizer = sequence_of({split_step(qwen2), byte_level_step(false)}), .nfc = true};
  if (name == "default")
    return {.pre_tokenizer =
                sequence_of({split_step(R"([\p{P}\$\+<=>\^~\|]+)"), split_step(gpt2), split_step("\\p{N}+"), split_step("[0-9]{3}"), byte_level_step(false)})};
  const std::vector<std::string> known = {"gpt-2", "smollm", "llama-bpe", "llama3", "llama-v3", "qwen2", "default"};
  throw Error("tokenizer.gguf", "tokenizer.ggml.pre \"" + name + "\" is not supported" + did_you_mean(name, known, "supported are"));
}

/// `tokenizer.ggml.token_type`. Tokens of these types are cut out of a text before the model sees it.
enum GgufTokenType : std::int64_t { gguf_unknown = 2, gguf_control = 3, gguf_user_defined = 4 };
inline bool is_added(std::int64_t type) { return type == gguf_unknown || type == gguf_control || type == gguf_user_defined; }

}  // namespace peft::tokenizer::detail
