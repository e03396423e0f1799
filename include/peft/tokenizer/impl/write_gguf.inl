// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "peft/tokenizer/impl/load_huggingface.inl"
#include "peft/tokenizer/impl/load_sentencepiece.inl"
#include "peft/tokenizer/impl/write_gguf_byte_level.inl"
#include "peft/tokenizer/impl/write_gguf_pieces.inl"
#include "peft/tokenizer/impl/write_gguf_sentencepiece.inl"
#include "peft/tokenizer/impl/write_gguf_wordpiece.inl"
#include "peft/tokenizer/write_gguf.hpp"

namespace peft {

namespace tokenizer::detail {

/// Which tokens begin, end and pad a text, which are put around it, and the chat template.
inline void write_gguf_companions(GgufFileWriter& w, const std::string& path, const Pipeline& pipeline, std::int64_t vocab_size, const char* kind) {
  // What stands around a text: seen by its putting it around one.
  std::vector<Part> parts = {{.ids = {0}, .offsets = {}, .text = 0}};
  const PostProcessor::Context context{.add_special_tokens = true, .vocabulary = &pipeline.model->vocabulary()};
  if (pipeline.post_processor) pipeline.post_processor->apply(parts, context);
  std::vector<std::int32_t> around[2];  // in front and behind
  bool behind = false;
  for (const Part& part : parts) {
    if (part.text == 0) behind = true;
    if (part.text < 0) around[behind].insert(around[behind].end(), part.ids.begin(), part.ids.end());
  }
  std::optional<std::int32_t> ids[2] = {pipeline.bos_id, pipeline.eos_id};
  for (const int side : {0, 1}) {
    const std::string what = std::string("the post_processor, which puts ") + (side == 0 ? "in front of" : "behind") + " a text ";
    if (around[side].size() > 1) throw no_gguf_form(path, what + "more than one token,", kind);
    if (around[side].empty()) continue;
    if (side == 1 && ids[1] && *ids[1] != around[1][0]) throw no_gguf_form(path, what + "another token than eos_token,", kind);
    ids[side] = around[side][0];
  }

  const auto put = [&](const char* key, std::optional<std::int32_t> id) {
    if (id && *id < vocab_size) w.u32(std::string("tokenizer.ggml.") + key, *id);  // an id beyond the tokens, as a config.json may have, never comes up
  };
  put("bos_token_id", ids[0]), put("eos_token_id", ids[1]), put("unknown_token_id", pipeline.unk_id), put("padding_token_id", pipeline.pad_id);
  std::vector<std::int32_t> ends = pipeline.eos_ids;
  std::erase_if(ends, [&](std::int32_t id) { return id == ids[1] || id >= vocab_size; });
  if (ends.size() > 2) throw no_gguf_form(path, "a text that more than three tokens end", kind);
  const char* const keys[2] = {"eot_token_id", "eom_token_id"};
  for (std::size_t i = 0; i < ends.size(); i++) put(keys[i], ends[i]);
  w.boolean("tokenizer.ggml.add_bos_token", !around[0].empty()), w.boolean("tokenizer.ggml.add_eos_token", !around[1].empty());
  if (!pipeline.chat_template.empty()) w.text("tokenizer.chat_template", pipeline.chat_template);
}

/// A directory that has a tokenizer.model and no tokenizer.json.
inline void write_gguf_of_pieces(GgufFileWriter& w, const std::filesystem::path& file, std::int64_t vocab_size) {
  const std::string path = file.string();
  if (!chatglm_config(file).is_null()) throw no_gguf_form(path, "a ChatGLM's tokenizer", "llama");
  const Pipeline pipeline = read_sentencepiece_file(file);
  const auto mapped = MappedFile::open(path);
  const std::string_view bytes(reinterpret_cast<const char*>(mapped->data()), mapped->size());
  write_gguf_sentencepiece(w, path, SentencepieceModel::parse(bytes, path), pipeline.model->vocabulary(), vocab_size);
  write_gguf_companions(w, path, pipeline, vocab_size, "llama");
}

}  // namespace tokenizer::detail

PEFT_INLINE void write_gguf_tokenizer(GgufFileWriter& writer, const std::string& directory, std::int64_t vocab_size) {
  namespace parts = tokenizer::detail;
  const std::filesystem::path folder(directory);
  if (const std::filesystem::path file = parts::sentencepiece_within(folder); !file.empty()) return parts::write_gguf_of_pieces(writer, file, vocab_size);
  const std::string path = (folder / "tokenizer.json").string();
  const tokenizer::Pipeline pipeline = parts::in_file(path, [&] { return parts::read_huggingface(folder); });
  const Json json = Json::read(path);
  const Json* const type = json.at("model").get("type");  // older files, of BPE, have none
  const std::string kind = type && type->is_string() ? type->string() : "BPE";
  if (kind == "WordPiece") return parts::write_gguf_wordpiece(writer, path, json, parts::gguf_tokens(pipeline, path, "bert", vocab_size));
  if (kind != "BPE") throw NotSupported("save_gguf_model", path + ": a tokenizer of the type " + kind + " in a GGUF file; supported are BPE and WordPiece");
  const std::vector<std::string> cuts = parts::cuts_of(json.get("pre_tokenizer"));
  const bool byte_level = std::ranges::find(cuts, "bytes") != cuts.end();
  const char* const name = byte_level ? "gpt2" : "llama";
  parts::GgufTokens tokens = parts::gguf_tokens(pipeline, path, name, vocab_size);
  if (byte_level)
    parts::write_gguf_byte_level(writer, path, json, tokens);
  else
    parts::write_gguf_pieces(writer, path, json, pipeline.model->vocabulary(), std::move(tokens));
  parts::write_gguf_companions(writer, path, pipeline, vocab_size, name);
}

}  // namespace peft
