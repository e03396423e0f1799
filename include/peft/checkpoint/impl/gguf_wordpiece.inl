// SPDX-License-Identifier: Apache-2.0
#pragma once

// The WordPiece of a Hugging Face directory as GGUF's vocabulary of the kind "bert", and what stands beside it.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/io/gguf_writer.hpp"
#include "peft/io/json.hpp"

namespace peft::detail {

/// Refuses what readers of such a vocabulary cannot know: the keys say nothing of normalizers, and capitals in the vocabulary stand for "cased".
inline void check_wordpiece(const std::string& path, const Json& tokenizer, bool cased) {
  const auto must = [&](bool holds, const std::string& what) {
    if (!holds) throw NotSupported("save_gguf_model", path + ": " + what + " has no form in GGUF's vocabulary \"bert\"");
  };
  const auto is = [](const Json* value, const Json& wanted) { return value && *value == wanted; };
  const Json& model = tokenizer.at("model");
  must(is(model.get("type"), Json("WordPiece")), "a tokenizer that is no WordPiece");
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

/// Into the file: tokens, their types, and the ids of [CLS], [SEP] and the like. Throws FormatError for a vocabulary with gaps.
inline void write_gguf_wordpiece(GgufFileWriter& w, const std::string& path) {
  const Json tokenizer = Json::read(path);
  const Json* const model = tokenizer.get("model");
  if (!model || !model->get("vocab") || !model->get("vocab")->is_object()) throw FormatError(path, -1, "there is no \"vocab\" of tokens and ids");
  std::vector<std::string> tokens(model->get("vocab")->size());
  std::vector<std::int32_t> types(tokens.size(), 1);
  std::vector<bool> known(tokens.size());
  bool cased = false;
  const auto place = [&](const std::string& token, std::int64_t id, std::int32_t type) {
    if (id >= std::int64_t(tokens.size())) tokens.resize(std::size_t(id) + 1), types.resize(tokens.size(), 1), known.resize(tokens.size());
    tokens[std::size_t(id)] = gguf_word_piece(token), types[std::size_t(id)] = type, known[std::size_t(id)] = true;
  };
  const auto allowed = [&](std::int64_t id) {
    if (id < 0 || id > 1 << 24) throw FormatError(path, -1, "token id " + std::to_string(id) + "; 0 … 2^24 are allowed");
    return id;
  };
  for (const auto& [token, id] : model->get("vocab")->object()) {
    cased = cased || (!token.starts_with('[') && token.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") != std::string::npos);
    place(token, allowed(id.integer()), 1);
  }
  check_wordpiece(path, tokenizer, cased);
  const std::string unknown = model->get("unk_token") ? model->get("unk_token")->string() : "[UNK]";
  if (const Json* added = tokenizer.get("added_tokens"))
    for (const Json& token : added->array()) {
      const std::string& content = token.at("content").string();
      const std::int64_t id = allowed(token.at("id").integer());
      place(content, id, content == unknown ? 2 : token.get("special") && token.get("special")->boolean() ? 3 : 4);
    }
  for (std::size_t id = 0; id < tokens.size(); id++)
    if (!known[id]) throw FormatError(path, -1, "no token has the id " + std::to_string(id) + " of " + std::to_string(tokens.size()));
  w.text("tokenizer.ggml.model", "bert"), w.text("tokenizer.ggml.pre", "default");
  w.texts("tokenizer.ggml.tokens", tokens), w.i32s("tokenizer.ggml.token_type", types);
  const auto id_of = [&](const char* key, const std::string& token) {
    for (std::size_t id = 0; id < tokens.size(); id++)
      if (tokens[id] == token) return w.u32(std::string("tokenizer.ggml.") + key, std::int64_t(id));
  };
  id_of("bos_token_id", "[CLS]"), id_of("cls_token_id", "[CLS]"), id_of("seperator_token_id", "[SEP]");  // spelt so by all who read it
  id_of("padding_token_id", "[PAD]"), id_of("mask_token_id", "[MASK]"), id_of("unknown_token_id", gguf_word_piece(unknown));
}

/// How sentence-transformers makes a text's vector of its tokens', where the directory says so: 1 the mean, 2 the first one's, 3 the last one's.
inline void write_gguf_pooling(GgufFileWriter& w, const std::filesystem::path& directory) {
  const std::filesystem::path listed = directory / "modules.json";
  if (!std::filesystem::exists(listed)) return;
  const Json modules = Json::read(listed.string());
  for (const Json& module : modules.array()) {
    if (!module.at("type").string().ends_with(".Pooling")) continue;
    const std::string path = (directory / module.at("path").string() / "config.json").string();
    const Json pooling = Json::read(path);
    for (const auto& [key, type] : {std::pair("pooling_mode_mean_tokens", 1), std::pair("pooling_mode_cls_token", 2), std::pair("pooling_mode_lasttoken", 3)})
      if (const Json* on = pooling.get(key); on && on->boolean()) return w.u32("bert.pooling_type", type);
    throw NotSupported("save_gguf_model", path + ": GGUF has the mean of the tokens, the first and the last one");
  }
}

}  // namespace peft::detail
