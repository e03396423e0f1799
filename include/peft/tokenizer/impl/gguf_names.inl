// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a GGUF file says by a name, as tokenizer.json spells it out: for who reads such a file, and for who writes it as tokenizer.json.

#include <algorithm>
#include <initializer_list>
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

/// GPT-2's cut, which ByteLevel makes by itself.
inline constexpr std::string_view gpt2_words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view llama3_words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view qwen2_words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// The names that are known. Of those that mean the same a writer takes the first.
inline const std::vector<std::string>& gguf_pre_names() {
  static const std::vector<std::string> names = {"gpt-2",   "olmo",  "smollm",    "command-r", "llama-bpe", "smaug-bpe", "qwen2", "deepseek-r1-qwen",
                                                 "default", "phi-2", "starcoder", "refact",    "llama3",    "llama-v3",  "dbrx",  "mpt"};
  return names;
}

/// Throws Error for a name that is not known.
inline GgufPre gguf_pre(const std::string& name) {
  const auto is = [&](std::initializer_list<std::string_view> names) { return std::find(names.begin(), names.end(), name) != names.end(); };
  const bool composed = is({"olmo", "mpt", "command-r"});
  if (is({"gpt-2", "phi-2", "olmo", "mpt"})) return {.pre_tokenizer = byte_level_step(true), .nfc = composed};
  if (is({"smollm", "starcoder", "refact", "command-r"})) {
    Json digits = Json::make_object();
    digits.set("type", Json("Digits")), digits.set("individual_digits", Json(true));
    return {.pre_tokenizer = sequence_of({digits, byte_level_step(true)}), .nfc = composed};
  }
  if (is({"llama-bpe", "llama3", "llama-v3"}))
    return {.pre_tokenizer = sequence_of({split_step(llama3_words), byte_level_step(false)}), .ignore_merges = true, .add_bos = true};
  if (is({"smaug-bpe", "dbrx"})) return {.pre_tokenizer = sequence_of({split_step(llama3_words), byte_level_step(false)})};
  if (is({"qwen2", "deepseek-r1-qwen"})) return {.pre_tokenizer = sequence_of({split_step(qwen2_words), byte_level_step(false)}), .nfc = name == "qwen2"};
  if (name == "default")
    return {.pre_tokenizer = sequence_of(
                {split_step(R"([\p{P}\$\+<=>\^~\|]+)"), split_step(gpt2_words), split_step("\\p{N}+"), split_step("[0-9]{3}"), byte_level_step(false)})};
  throw Error("tokenizer.gguf", "tokenizer.ggml.pre \"" + name + "\" is not supported" + did_you_mean(name, gguf_pre_names(), "supported are", 32));
}

/// A key of ours, beside `tokenizer.ggml.add_space_prefix`: "always" and "first" as Hugging Face's Metaspace means them. Without it a space goes in front of
/// every text between two added tokens, also of one that begins with a space.
inline constexpr const char* gguf_prepend_scheme = "tokenizer.ggml.prepend_scheme";

/// `tokenizer.ggml.token_type`.
enum GgufTokenType : std::int32_t { gguf_normal = 1, gguf_unknown = 2, gguf_control = 3, gguf_user_defined = 4, gguf_unused = 5, gguf_byte = 6 };
/// Tokens of these types are cut out of a text before the model sees it.
inline bool is_added(std::int64_t type) { return type == gguf_unknown || type == gguf_control || type == gguf_user_defined; }

}  // namespace peft::tokenizer::detail
