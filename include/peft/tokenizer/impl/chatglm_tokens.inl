// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <filesystem>

#include "peft/tokenizer/builtin_templates.hpp"
#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/pipeline.hpp"
#include "peft/tokenizer/sentencepiece.hpp"
#include "peft/tokenizer/whitespace_marks.hpp"

// What ChatGLM's tokenizers do besides their sentencepiece file, of which that file says nothing. Included by load_sentencepiece.inl alone.

namespace peft::tokenizer::detail {

/// ice_text.model is ChatGLM-6B's, tokenizer.model that of ChatGLM2 and 3.
inline bool is_chatglm_6b(const std::filesystem::path& file) { return file.filename() == "ice_text.model"; }

/// tokenizer_config.json beside the file, if its class is ChatGLM's; else null.
inline Json chatglm_config(const std::filesystem::path& file) {
  const std::filesystem::path path = file.parent_path() / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return Json();
  const Json json = Json::read(path.string());
  return Component(json, path.string(), "configuration").string("tokenizer_class", "") == "ChatGLMTokenizer" ? json : Json();
}

/// The first release of ChatGLM-6B has 20,000 ids of images in front of those of texts; later ones say num_image_tokens = 0.
inline void add_image_tokens(SentencepieceModel& model, const Json& config, std::string_view path) {
  const Component c(config, path, "configuration");
  const std::int64_t n = c.find("num_image_tokens") != nullptr ? c.integer("num_image_tokens", 0, 1 << 20) : 20000;
  std::vector<SentencepieceModel::Piece> pieces;
  for (std::int64_t i = 0; i < n; i++) pieces.push_back({"<image_" + std::to_string(i) + ">", 0, PieceType::control});
  pieces.insert(pieces.end(), std::make_move_iterator(model.pieces.begin()), std::make_move_iterator(model.pieces.end()));
  model.pieces = std::move(pieces);
  for (std::int32_t* id : {&model.unk_id, &model.bos_id, &model.eos_id, &model.pad_id})
    if (*id >= 0) *id += static_cast<std::int32_t>(n);
}

inline void finish_chatglm_6b(Pipeline& pipeline, std::string_view path) {
  const auto id_of = [&](const char* piece) {
    const std::int32_t id = pipeline.model->vocabulary().id(piece);
    if (id < 0) throw FormatError(path, -1, "a ChatGLMTokenizer without the piece " + std::string(piece));
    return id;
  };
  for (const char* piece : {"[MASK]", "[gMASK]", "<sop>", "<eop>"}) pipeline.added_tokens.push_back({.id = id_of(piece), .content = piece, .special = true});
  if (const std::int32_t id = pipeline.model->vocabulary().id("[sMASK]"); id >= 0)
    pipeline.added_tokens.push_back({.id = id, .content = "[sMASK]", .special = true});
  pipeline.bos_id = id_of("<sop>"), pipeline.eos_id = id_of("<eop>");
  if (const std::int32_t id = pipeline.model->vocabulary().id("<pad>"); id >= 0) pipeline.pad_id = id;
  std::vector<NormalizerPtr> normalizers;
  normalizers.push_back(std::make_unique<WhitespaceMarks>()), normalizers.push_back(std::move(pipeline.normalizer));
  pipeline.normalizer = std::make_unique<NormalizerSequence>(std::move(normalizers));
  std::vector<DecoderPtr> decoders;
  decoders.push_back(std::move(pipeline.decoder)), decoders.push_back(std::make_unique<WhitespaceMarksDecoder>());
  pipeline.decoder = std::make_unique<DecoderSequence>(std::move(decoders));
  if (pipeline.chat_template.empty()) pipeline.chat_template = builtin_chat_template("chatglm");
}

/// The ids behind the vocabulary. Its sop and eop are plain words: no text may spell these, so here they are <sop> and <eop>.
inline void finish_chatglm(Pipeline& pipeline, const std::filesystem::path& folder, std::string_view path) {
  auto next = static_cast<std::int32_t>(pipeline.model->vocabulary().size());
  const std::int32_t gmask = next + 1, sop = next + 3;
  for (const char* token : {"[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"})
    pipeline.added_tokens.push_back({.id = next++, .content = token, .special = true});
  if (!pipeline.eos_id) throw FormatError(path, -1, "a ChatGLMTokenizer whose sentencepiece model has no eos");
  pipeline.added_tokens.push_back({.id = *pipeline.eos_id, .content = std::string(pipeline.model->vocabulary().token(*pipeline.eos_id)), .special = true});
  pipeline.pad_id = pipeline.unk_id;
  pipeline.post_processor = std::make_unique<Template>(std::vector<std::int32_t>{gmask, sop}, std::vector<std::int32_t>{});
  // The two generations differ in nothing that a tokenizer's files must say. Their names do, where somebody has kept them.
  std::string& chat = pipeline.chat_template;
  for (const char* config : {"tokenizer_config.json", "config.json"}) {
    const std::filesystem::path file = folder / config;
    if (!std::filesystem::exists(file)) continue;
    const Json json = Json::read(file.string());
    const Component c(json, file.string(), "configuration");
    for (const char* key : {"name_or_path", "_name_or_path"})
      for (const char* name : {"chatglm2", "chatglm3"})
        if (chat.empty() && c.string(key, "").find(name) != std::string::npos) chat = builtin_chat_template(name);
  }
  if (std::ranges::find(builtin_chat_templates(), chat) != builtin_chat_templates().end()) chat = builtin_chat_template(chat);
  if (const std::size_t at = chat.find("[gMASK]sop"); at != chat.npos) chat.replace(at, 10, "[gMASK]<sop>");
  if (chat.find("<|assistant|>") != chat.npos)  // then these end an answer, too
    for (const AddedToken& token : pipeline.added_tokens)
      if (token.content == "<|user|>" || token.content == "<|observation|>") pipeline.eos_ids.push_back(token.id);
}

}  // namespace peft::tokenizer::detail
