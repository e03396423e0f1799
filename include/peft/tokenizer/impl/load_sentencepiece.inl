// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "peft/io/mapped_file.hpp"
#include "peft/tokenizer/impl/chatglm_tokens.inl"
#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/impl/load_huggingface.inl"
#include "peft/tokenizer/pipeline.hpp"
#include "peft/tokenizer/sentencepiece.hpp"

namespace peft::tokenizer::detail {

/// The pipeline that a sentencepiece model stands for. Texts cannot spell its control pieces.
inline Pipeline sentencepiece_pipeline(const SentencepieceModel& model, std::string_view path) {
  Pipeline pipeline;
  std::vector<std::pair<std::string, std::int32_t>> tokens, user_defined;
  std::vector<float> scores;
  std::vector<PieceType> types;
  SentencepieceDecoder::Options decoding{.drop_first_space = model.add_dummy_prefix || model.remove_extra_whitespaces,
                                         .drop_leading_spaces = model.remove_extra_whitespaces,
                                         .unk_surface = model.unk_surface};
  std::int32_t unk_id = -1;
  for (const SentencepieceModel::Piece& piece : model.pieces) {
    const auto id = static_cast<std::int32_t>(tokens.size());
    tokens.emplace_back(piece.text, id);
    scores.push_back(piece.score);
    types.push_back(piece.type);
    if (piece.type == PieceType::user_defined) user_defined.emplace_back(piece.text, id);
    if (piece.type == PieceType::control) decoding.controls.push_back(piece.text), pipeline.control_ids.push_back(id);
    if (piece.type == PieceType::unknown) unk_id = id, decoding.unk_piece = piece.text;
  }
  if (unk_id < 0) throw FormatError(path, -1, "this sentencepiece model has no unknown piece");
  std::sort(decoding.controls.begin(), decoding.controls.end());
  const auto named = [&](std::int32_t id) { return id >= 0 && static_cast<std::size_t>(id) < tokens.size() ? std::optional(id) : std::nullopt; };
  pipeline.unk_id = unk_id;
  pipeline.bos_id = named(model.bos_id), pipeline.eos_id = named(model.eos_id), pipeline.pad_id = named(model.pad_id);

  pipeline.normalizer = std::make_unique<SentencepieceNormalizer>(CharacterMap(model.charsmap),
                                                                  SentencepieceNormalizer::Options{.add_dummy_prefix = model.add_dummy_prefix,
                                                                                                   .remove_extra_whitespaces = model.remove_extra_whitespaces,
                                                                                                   .escape_whitespaces = model.escape_whitespaces,
                                                                                                   .suffix_space = model.suffix_space},
                                                                  Trie(std::move(user_defined)));
  pipeline.decoder = std::make_unique<SentencepieceDecoder>(std::move(decoding));
  switch (model.kind) {
    case SentencepieceModel::Kind::unigram:
      pipeline.model = std::make_unique<Unigram>(Vocabulary(tokens), std::vector<double>(scores.begin(), scores.end()),
                                                 UnigramOptions{.unk_id = unk_id, .byte_fallback = model.byte_fallback, .types = std::move(types)});
      break;
    case SentencepieceModel::Kind::bpe:
      pipeline.model = std::make_unique<SentencepieceBpe>(Vocabulary(tokens), std::move(scores), std::move(types), unk_id, model.byte_fallback);
      break;
    default:
      throw FormatError(path, -1, "sentencepiece models of words or characters are not supported; there are unigram and bpe");
  }
  return pipeline;
}

/// A sentencepiece file does not say whether its texts are to begin with bos and end with eos: tokenizer_config.json beside it does, by name
/// (add_bos_token, add_eos_token) or by the class that reads it.
inline void read_sentencepiece_companions(const std::filesystem::path& folder, Pipeline& pipeline) {
  read_companions(folder, pipeline);
  const std::string path = (folder / "tokenizer_config.json").string();
  if (!std::filesystem::exists(path)) return;
  const Json json = Json::read(path);
  const Component c(json, path, "configuration");
  const std::string kind = c.string("tokenizer_class", "");
  const auto of_class = [&](std::string_view name) { return kind == name || kind == std::string(name) + "Fast"; };
  const bool bos = c.boolean("add_bos_token", of_class("LlamaTokenizer") || of_class("GemmaTokenizer"));
  const bool eos = c.boolean("add_eos_token", of_class("T5Tokenizer") || of_class("MT5Tokenizer"));
  std::vector<std::int32_t> before, after;
  if (bos && pipeline.bos_id) before.push_back(*pipeline.bos_id);
  if (eos && pipeline.eos_id) after.push_back(*pipeline.eos_id);
  if (!before.empty() || !after.empty()) pipeline.post_processor = std::make_unique<Template>(std::move(before), std::move(after));
}

inline Pipeline read_sentencepiece_file(const std::filesystem::path& file) {
  const std::string path = file.string();
  const auto mapped = MappedFile::open(path);
  const std::string_view bytes(reinterpret_cast<const char*>(mapped->data()), mapped->size());
  SentencepieceModel model = SentencepieceModel::parse(bytes, path);
  const Json chatglm = chatglm_config(file);
  const bool first = is_chatglm_6b(file);
  if (first && !chatglm.is_null()) add_image_tokens(model, chatglm, path);
  Pipeline pipeline = sentencepiece_pipeline(model, path);
  read_sentencepiece_companions(file.parent_path(), pipeline);
  if (!chatglm.is_null()) first ? finish_chatglm_6b(pipeline, path) : finish_chatglm(pipeline, file.parent_path(), path);
  return pipeline;
}

/// tokenizer.model, spiece.model or ice_text.model in a folder without tokenizer.json; empty if there is none.
inline std::filesystem::path sentencepiece_within(const std::filesystem::path& folder) {
  if (std::filesystem::is_directory(folder) && !std::filesystem::exists(folder / "tokenizer.json"))
    for (const char* name : {"tokenizer.model", "spiece.model", "ice_text.model"})
      if (std::filesystem::exists(folder / name)) return folder / name;
  return {};
}

}  // namespace peft::tokenizer::detail
