// SPDX-License-Identifier: Apache-2.0
#pragma once

// The tokens of a GGUF file to come, by id, whatever kind of vocabulary they are.

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "peft/io/gguf_writer.hpp"
#include "peft/tokenizer/impl/gguf_names.inl"
#include "peft/tokenizer/pipeline.hpp"

namespace peft::tokenizer::detail {

/// What GGUF cannot say of the tokenizer in `path`.
inline NotSupported no_gguf_form(const std::string& path, const std::string& what, const char* kind) {
  return NotSupported("save_gguf_model", path + ": " + what + " has no form in GGUF's vocabulary \"" + kind + "\"");
}

/// Texts, types (GgufTokenType) and, where the kind has them, scores.
struct GgufTokens {
  std::vector<std::string> texts;
  std::vector<std::int32_t> types;
  std::vector<float> scores;

  explicit GgufTokens(std::size_t size) : texts(size), types(size, gguf_unused) {}
  void put(std::size_t id, std::string text, std::int32_t type) { texts[id] = std::move(text), types[id] = type; }
  /// Names for ids without a token.
  void fill() {
    for (std::size_t id = 0; id < texts.size(); id++)
      if (types[id] == gguf_unused) texts[id] = "[PAD" + std::to_string(id) + "]";
  }

  /// Throws NotSupported for a text that two tokens have, since readers look for ids by text, and for one with a zero byte, where C's strings end.
  void write(GgufFileWriter& writer, const std::string& path, const char* kind) const {
    std::unordered_set<std::string_view> seen;
    for (std::size_t id = 0; id < texts.size(); id++) {
      if (!seen.insert(texts[id]).second) throw no_gguf_form(path, "the token \"" + texts[id] + "\" with two ids", kind);
      if (texts[id].find('\0') != texts[id].npos) throw no_gguf_form(path, "the zero byte in token " + std::to_string(id), kind);
    }
    writer.text("tokenizer.ggml.model", kind);
    writer.texts("tokenizer.ggml.tokens", texts);
    if (!scores.empty()) writer.f32s("tokenizer.ggml.scores", scores);
    writer.i32s("tokenizer.ggml.token_type", types);
  }
};

/// Throws ConfigError if ids below `end` do not fit into the model's vocabulary.
inline void check_vocab_size(std::int64_t end, std::int64_t vocab_size, const std::string& path) {
  if (end > vocab_size)
    throw ConfigError("save_gguf_model",
                      path + " has a token with the id " + std::to_string(end - 1) + "; the model's vocabulary has " + std::to_string(vocab_size) + " rows");
}

/// The tokens of a tokenizer.json: those of the model are normal, added ones control tokens if they are special, else user-defined, ids without a token
/// unused.
inline GgufTokens gguf_tokens(const Pipeline& pipeline, const std::string& path, const char* kind, std::int64_t vocab_size) {
  const Vocabulary& vocabulary = pipeline.model->vocabulary();
  check_vocab_size(vocabulary.end_id(), vocab_size, path);
  GgufTokens tokens(static_cast<std::size_t>(vocab_size));
  for (std::int32_t id = 0; id < vocabulary.end_id(); id++)
    if (const std::string_view token = vocabulary.token(id); token.data() != nullptr) tokens.put(static_cast<std::size_t>(id), std::string(token), gguf_normal);
  for (const AddedToken& token : pipeline.added_tokens) {
    check_vocab_size(std::int64_t{token.id} + 1, vocab_size, path);
    const auto id = static_cast<std::size_t>(token.id);
    const std::string name = "the added token \"" + token.content + "\"";
    if (tokens.types[id] != gguf_unused && tokens.texts[id] != token.content)
      throw FormatError(path, -1, name + " has the id " + std::to_string(token.id) + ", which is that of \"" + tokens.texts[id] + "\"");
    for (const auto& [set, flag] : {std::pair(token.single_word, "single_word"), std::pair(token.lstrip, "lstrip"), std::pair(token.rstrip, "rstrip")})
      if (set) throw no_gguf_form(path, name + " with " + flag, kind);
    if (token.normalized && pipeline.normalizer && (*pipeline.normalizer)(token.content) != token.content)
      throw no_gguf_form(path, name + ", which is looked for in its normalised form,", kind);
    tokens.put(id, token.content, token.special ? gguf_control : gguf_user_defined);
  }
  tokens.fill();
  return tokens;
}

}  // namespace peft::tokenizer::detail
