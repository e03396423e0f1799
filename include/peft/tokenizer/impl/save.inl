// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "peft/tokenizer/save.hpp"

namespace peft {

namespace detail {

PEFT_INLINE Json byte_level(bool use_regex) {
  return Json::parse(std::string(R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": )") + (use_regex ? "true" : "false") + "}", "byte_level");
}

PEFT_INLINE Json isolated(const char* pattern) {
  Json split = Json::make_object(), regex = Json::make_object();
  regex.set("Regex", Json(pattern));
  split.set("type", Json("Split")), split.set("pattern", std::move(regex)), split.set("behavior", Json("Isolated")), split.set("invert", Json(false));
  return split;
}

PEFT_INLINE Json in_sequence(Json first, Json second) {
  Json list = Json::make_array(), sequence = Json::make_object();
  list.push_back(std::move(first)), list.push_back(std::move(second));
  sequence.set("type", Json("Sequence")), sequence.set("pretokenizers", std::move(list));
  return sequence;
}

// What cuts text into pieces, by the name that GGUF gives it.
PEFT_INLINE Json pre_tokenizer_json(const std::string& name) {
  if (name == "gpt-2" || name == "default") return byte_level(true);
  if (name == "smollm") return in_sequence(Json::parse(R"({"type": "Digits", "individual_digits": true})", "digits"), byte_level(true));
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3")
    return in_sequence(isolated(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"), byte_level(false));
  if (name == "qwen2")
    return in_sequence(isolated(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"), byte_level(false));
  throw NotSupported("save_tokenizer", "tokenizer.ggml.pre \"" + name + "\" is not supported; supported are gpt-2, smollm, llama-bpe, qwen2, default");
}

PEFT_INLINE void save_gguf_tokenizer(const GgufFile& file, const std::filesystem::path& directory) {
  const auto text = [&](const char* key, const char* otherwise) {
    const GgufValue* value = file.find(key);
    return value ? value->string() : std::string(otherwise);
  };
  if (const std::string kind = text("tokenizer.ggml.model", ""); kind != "gpt2")
    throw NotSupported("save_tokenizer", "a vocabulary of the kind \"" + kind + "\" is not supported; supported is gpt2 (byte-level BPE)");
  const GgufValue *tokens = file.find("tokenizer.ggml.tokens"), *merges = file.find("tokenizer.ggml.merges"), *types = file.find("tokenizer.ggml.token_type");
  if (!tokens || !merges) throw FormatError(file.path(), -1, "tokenizer.ggml.tokens or tokenizer.ggml.merges is missing");
  const std::string pre = text("tokenizer.ggml.pre", "default");
  constexpr std::int64_t control = 3, user_defined = 4;

  Json added = Json::make_array(), merge_list = Json::make_array();
  const auto& all = tokens->strings();
  std::string vocabulary_text = "{";
  for (std::size_t id = 0; id < all.size(); id++) {
    const std::int64_t type = types && id < types->integers().size() ? types->integers()[id] : 1;
    vocabulary_text += (id ? "," : "") + Json(std::string(all[id])).dump(-1, false, false) + ":" + std::to_string(id);
    if (type != control && type != user_defined) continue;
    Json token = Json::make_object();
    token.set("id", Json(std::int64_t(id))), token.set("content", Json(std::string(all[id])));
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) token.set(flag, Json(false));
    token.set("special", Json(type == control));
    added.push_back(std::move(token));
  }
  for (std::string_view merge : merges->strings()) merge_list.push_back(Json(std::string(merge)));
  Json model = Json::make_object();
  model.set("type", Json("BPE"));
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) model.set(key, Json());
  for (const char* key : {"fuse_unk", "byte_fallback"}) model.set(key, Json(false));
  model.set("ignore_merges", Json(pre.starts_with("llama")));
  model.set("vocab", Json::parse(vocabulary_text + "}", file.path()));
  model.set("merges", std::move(merge_list));
  Json tokenizer = Json::make_object();
  tokenizer.set("version", Json("1.0")), tokenizer.set("truncation", Json()), tokenizer.set("padding", Json());
  tokenizer.set("added_tokens", std::move(added));
  tokenizer.set("normalizer", pre == "qwen2" ? Json::parse(R"({"type": "NFC"})", "normalizer") : Json());
  tokenizer.set("pre_tokenizer", pre_tokenizer_json(pre)), tokenizer.set("post_processor", Json()), tokenizer.set("decoder", byte_level(true));
  tokenizer.set("model", std::move(model));

  Json config = Json::make_object();
  config.set("tokenizer_class", Json("PreTrainedTokenizerFast")), config.set("clean_up_tokenization_spaces", Json(false));
  const auto named = [&](const char* key, const char* gguf) {
    if (const GgufValue* id = file.find(gguf); id && id->integer() >= 0 && id->integer() < std::int64_t(all.size())) config.set(key, Json(std::string(all[std::size_t(id->integer())])));
  };
  named("bos_token", "tokenizer.ggml.bos_token_id"), named("eos_token", "tokenizer.ggml.eos_token_id"), named("pad_token", "tokenizer.ggml.padding_token_id");
  named("unk_token", "tokenizer.ggml.unknown_token_id");
  if (const GgufValue* chat = file.find("tokenizer.chat_template")) config.set("chat_template", Json(chat->string()));
  write_text_atomically((directory / "tokenizer.json").string(), tokenizer.dump(2, false, false));
  write_text_atomically((directory / "tokenizer_config.json").string(), config.dump(2, true));
}

}  // namespace detail

PEFT_INLINE void save_tokenizer(const std::string& model, const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code failure;
  fs::create_directories(directory, failure);
  if (failure) throw FormatError(directory, -1, "cannot be created: " + failure.message());
  if (!fs::is_directory(model)) return detail::save_gguf_tokenizer(GgufFile::open(model), directory);
  std::size_t copied = 0;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt", "tokenizer.model"})
    if (fs::exists(fs::path(model) / name)) {
      fs::copy_file(fs::path(model) / name, fs::path(directory) / name, fs::copy_options::overwrite_existing, failure);
      if (failure) throw FormatError((fs::path(directory) / name).string(), -1, "cannot be written: " + failure.message());
      copied++;
    }
  if (copied == 0) throw FormatError(model, -1, "no tokenizer is here: neither tokenizer.json nor tokenizer.model");
}

}  // namespace peft
