// SPDX-License-Identifier: Apache-2.0
#pragma once

// WordPiece as GGUF's vocabulary of the kind "bert".

#include <cstdint>
#include <string>
#include <string_view>

#include "peft/io/json.hpp"
#include "peft/tokenizer/impl/gguf_tokens.inl"

namespace peft::tokenizer::detail {

/// Refuses what readers of such a vocabulary cannot know: the keys say nothing of normalizers, and capitals in the vocabulary stand for "cased".
inline void check_wordpiece(const std::string& path, const Json& tokenizer, bool cased) {
  const auto must = [&](bool holds, const std::string& what) {
    if (!holds) throw no_gguf_form(path, what, "bert");
  };
  const auto is = [](const Json* value, const Json& wanted) { return value && *value == wanted; };
  const Json& model = tokenizer.at("model");
  must(!model.get("continuing_subword_prefix") || is(model.get("continuing_subword_prefix"), Json("##")), "a continuing_subword_prefix other than \"##\"");
  must(!model.get("max_input_chars_per_word") || is(model.get("max_input_chars_per_word"), Json(std::int64_t(100))), "max_input_chars_per_word other than 100");
  const Json* normalizer = tokenizer.get("normalizer");
  must(normalizer && is(normalizer->get("type"), Json("BertNormalizer")), "a normalizer other than BertNormalizer");
  for (const char* key : {"clean_text", "handle_chinese_chars"})
    must(!normalizer->get(key) || is(normalizer->get(key), Json(true)), std::string(key) + " false");
  must(is(normalizer->get("lowercase"), Json(!cased)),
       cased ? "lowercase with capitals in the vocabulary" : "a vocabulary without capitals that is not lowercase");
  const Json* accents = normalizer->get("strip_accents");
  must(!accents || accents->is_null() || *accents == Json(!cased), "strip_accents that is not as lowercase");
  const Json* pre_tokenizer = tokenizer.get("pre_tokenizer");
  must(pre_tokenizer && is(pre_tokenizer->get("type"), Json("BertPreTokenizer")), "a pre_tokenizer other than BertPreTokenizer");
}

/// A token as the readers of GGUF have it: ▁ in front of what begins a word, nothing in front of what does not; names in brackets as they are.
inline std::string gguf_word_piece(std::string_view token) {
  if (token.starts_with('[') && token.ends_with(']')) return std::string(token);
  return token.starts_with("##") ? std::string(token.substr(2)) : "\xE2\x96\x81" + std::string(token);
}

/// Into the file: tokens, their types, and the ids of [CLS], [SEP] and the like.
inline void write_gguf_wordpiece(GgufFileWriter& w, const std::string& path, const Json& tokenizer, GgufTokens tokens) {
  bool cased = false;
  for (const std::string& token : tokens.texts)
    cased = cased || (!token.starts_with('[') && token.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") != std::string::npos);
  check_wordpiece(path, tokenizer, cased);
  const Json* const named = tokenizer.at("model").get("unk_token");
  const std::string unknown = gguf_word_piece(named ? named->string() : "[UNK]");
  for (std::size_t id = 0; id < tokens.texts.size(); id++) {
    tokens.texts[id] = gguf_word_piece(tokens.texts[id]);
    if (tokens.texts[id] == unknown && is_added(tokens.types[id])) tokens.types[id] = gguf_unknown;
  }
  tokens.write(w, path, "bert");
  w.text("tokenizer.ggml.pre", "default");
  const auto id_of = [&](const char* key, const std::string& token) {
    for (std::size_t id = 0; id < tokens.texts.size(); id++)
      if (tokens.texts[id] == token) return w.u32(std::string("tokenizer.ggml.") + key, std::int64_t(id));
  };
  id_of("bos_token_id", "[CLS]"), id_of("cls_token_id", "[CLS]"), id_of("seperator_token_id", "[SEP]");  // spelt so by all who read it
  id_of("padding_token_id", "[PAD]"), id_of("mask_token_id", "[MASK]"), id_of("unknown_token_id", unknown);
}

}  // namespace peft::tokenizer::detail
