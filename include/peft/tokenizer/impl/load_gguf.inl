// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <filesystem>
#include <limits>

#include "peft/io/gguf.hpp"
#include "peft/tokenizer/bpe.hpp"
#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/impl/gguf_names.inl"
#include "peft/tokenizer/impl/load_sentencepiece.inl"
#include "peft/tokenizer/impl/model.inl"
#include "peft/tokenizer/pipeline.hpp"

namespace peft::tokenizer::detail {

/// A folder that holds one GGUF file and no tokenizer.json stands for the file, as it does for load_model.
inline std::string gguf_within(const std::string& path) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(path) || fs::exists(fs::path(path) / "tokenizer.json")) return path;
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.path().extension() == ".gguf") found.push_back(entry.path().string());
  return found.size() == 1 ? found[0] : path;
}

/// The keys `tokenizer.ggml.*` of a GGUF file.
class GgufKeys {
 public:
  explicit GgufKeys(const GgufFile& file) : file_(file) {}
  const GgufValue* find(std::string_view key) const { return file_.find("tokenizer.ggml." + std::string(key)); }
  const GgufValue& at(std::string_view key) const {
    if (const GgufValue* value = find(key)) return *value;
    throw Error("tokenizer.gguf", "the key tokenizer.ggml." + std::string(key) + " is missing");
  }
  std::string string(std::string_view key, const char* otherwise) const { return find(key) != nullptr ? find(key)->string() : otherwise; }
  bool boolean(std::string_view key, bool otherwise) const { return find(key) != nullptr ? find(key)->boolean() : otherwise; }
  /// An id that must be one of the `size` tokens.
  std::optional<std::int32_t> token(std::string_view key, std::size_t size) const {
    const GgufValue* const value = find(key);
    if (value == nullptr) return std::nullopt;
    const std::int64_t id = value->integer();
    if (id < 0 || static_cast<std::uint64_t>(id) >= size)
      throw Error("tokenizer.gguf", "tokenizer.ggml." + std::string(key) + " is " + std::to_string(id) + "; there are " + std::to_string(size) + " tokens");
    return static_cast<std::int32_t>(id);
  }

 private:
  const GgufFile& file_;
};

/// Byte-level BPE: `gpt2`.
inline void read_byte_level(const GgufKeys& keys, Vocabulary vocabulary, Pipeline& pipeline, bool& add_bos) {
  const GgufPre pre = gguf_pre(keys.string("pre", "default"));
  add_bos = pre.add_bos;
  if (pre.nfc) pipeline.normalizer = std::make_unique<UnicodeForm>(unicode::Form::nfc);
  pipeline.pre_tokenizer = make_pre_tokenizer(pre.pre_tokenizer, "tokenizer.ggml.pre");
  pipeline.decoder = std::make_unique<ByteLevelDecoder>();
  std::vector<Merge> merges;
  for (const std::string_view text : keys.at("merges").strings()) {
    const std::size_t space = text.find(' ', 1);
    if (space == text.npos)
      throw Error("tokenizer.gguf", "merge " + std::to_string(merges.size()) + " is \"" + std::string(text) + "\"; wanted are two tokens, \"a b\"");
    merges.push_back(merge_of(vocabulary, text.substr(0, space), text.substr(space + 1), merges.size(), 0));
  }
  // Llama 3 files of early converters do not say which token begins a text.
  if (add_bos && !pipeline.bos_id)
    if (const std::int32_t id = vocabulary.id("<|begin_of_text|>"); id >= 0) pipeline.bos_id = id;
  pipeline.model = std::make_unique<Bpe>(std::move(vocabulary), merges, BpeOptions{.ignore_merges = pre.ignore_merges});
}

/// sentencepiece's BPE: `llama`. Spaces are ▁, a score orders the merges, unknown characters fall back to bytes.
inline void read_sentencepiece(const GgufKeys& keys, Vocabulary vocabulary, Pipeline& pipeline) {
  std::vector<float> scores;
  for (const double score : keys.at("scores").numbers()) {
    if (!std::isfinite(score)) throw Error("tokenizer.gguf", "the score of token " + std::to_string(scores.size()) + " is not finite");
    scores.push_back(static_cast<float>(score));
  }
  if (scores.size() != vocabulary.size())
    throw Error("tokenizer.gguf", "there are " + std::to_string(vocabulary.size()) + " tokens and " + std::to_string(scores.size()) + " scores");
  constexpr const char* mark = "\xE2\x96\x81";
  const bool prefix = keys.boolean("add_space_prefix", true);
  if (const std::string scheme = keys.string("prepend_scheme", ""); prefix && !scheme.empty()) {
    if (scheme != "first" && scheme != "always")
      throw Error("tokenizer.gguf", std::string(gguf_prepend_scheme) + " is \"" + scheme + "\"; there are first, always");
    pipeline.pre_tokenizer = std::make_unique<Metaspace>(mark, scheme == "first" ? PrependScheme::first : PrependScheme::always, false);
  } else {
    std::vector<NormalizerPtr> normalizers;
    if (prefix) normalizers.push_back(std::make_unique<Prepend>(mark));
    normalizers.push_back(std::make_unique<Replace>(Pattern::literal(" "), mark));
    pipeline.normalizer = std::make_unique<NormalizerSequence>(std::move(normalizers));
  }
  std::vector<DecoderPtr> decoders;
  decoders.push_back(std::make_unique<ReplaceDecoder>(Pattern::literal(mark), " "));
  decoders.push_back(std::make_unique<ByteFallback>());
  decoders.push_back(std::make_unique<Fuse>());
  if (prefix) decoders.push_back(std::make_unique<StripDecoder>(" ", 1, 0));
  pipeline.decoder = std::make_unique<DecoderSequence>(std::move(decoders));
  const BpeOptions options{.unk_id = pipeline.unk_id.value_or(-1), .fuse_unk = true, .byte_fallback = true};
  const std::vector<Merge> merges = merges_of_scores(vocabulary, scores);
  pipeline.model = std::make_unique<Bpe>(std::move(vocabulary), merges, options);
}

/// BERT's WordPiece: `bert`. The converter has put ▁ in front of what begins a word and taken "##" off what does not; names in brackets stay.
inline std::vector<std::pair<std::string, std::int32_t>> bert_tokens(std::vector<std::pair<std::string, std::int32_t>> tokens) {
  for (auto& [token, id] : tokens) {
    if (token.starts_with(space_mark))
      token.erase(0, space_mark.size());
    else if (!(token.starts_with('[') && token.ends_with(']')))
      token.insert(0, "##");
  }
  return tokens;
}

inline void read_wordpiece(Vocabulary vocabulary, Pipeline& pipeline) {
  if (!pipeline.unk_id) {
    const std::int32_t id = vocabulary.id("[UNK]");
    if (id < 0) throw Error("tokenizer.gguf", "a vocabulary of the kind bert needs an unknown token: tokenizer.ggml.unknown_token_id, or [UNK]");
    pipeline.unk_id = id;
  }
  // Whether letters keep their case is in no key: they do if the vocabulary has capitals.
  bool cased = false;
  for (std::int32_t id = 0; id < vocabulary.end_id() && !cased; id++)
    if (const std::string_view token = vocabulary.token(id); !token.starts_with('[')) cased = token.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") != token.npos;
  pipeline.normalizer = std::make_unique<BertNormalizer>(BertNormalizer::Options{.strip_accents = !cased, .lowercase = !cased});
  std::vector<PreTokenizerPtr> steps;
  steps.push_back(std::make_unique<Split>(Pattern::regex("\\s", "tokenizer.ggml.model"), SplitBehavior::removed));
  steps.push_back(std::make_unique<Split>(Pattern::punctuation(), SplitBehavior::isolated));
  pipeline.pre_tokenizer = std::make_unique<PreTokenizerSequence>(std::move(steps));
  pipeline.decoder = std::make_unique<WordPieceDecoder>("##", true);
  pipeline.model = std::make_unique<WordPiece>(std::move(vocabulary), *pipeline.unk_id);
}

/// sentencepiece's Unigram: `t5`.
inline void read_unigram(const GgufKeys& keys, const std::vector<std::pair<std::string, std::int32_t>>& tokens, Pipeline& pipeline) {
  SentencepieceModel model;
  const std::vector<double> scores = keys.at("scores").numbers();
  const GgufValue* const types = keys.find("token_type");
  if (scores.size() != tokens.size())
    throw Error("tokenizer.gguf", "there are " + std::to_string(tokens.size()) + " tokens and " + std::to_string(scores.size()) + " scores");
  for (std::size_t i = 0; i < tokens.size(); i++) {
    if (!std::isfinite(scores[i])) throw Error("tokenizer.gguf", "the score of token " + std::to_string(i) + " is not finite");
    const std::int64_t type = types != nullptr ? types->integers()[i] : 1;
    if (type < 1 || type > 6) throw Error("tokenizer.gguf", "token " + std::to_string(i) + " has the type " + std::to_string(type) + "; types are 1 to 6");
    model.pieces.push_back({tokens[i].first, static_cast<float>(scores[i]), static_cast<PieceType>(type)});
  }
  if (pipeline.unk_id) model.pieces[static_cast<std::size_t>(*pipeline.unk_id)].type = PieceType::unknown;
  if (const GgufValue* map = keys.find("precompiled_charsmap"))
    for (const std::int64_t byte : map->integers()) model.charsmap += static_cast<char>(static_cast<unsigned char>(byte & 0xFF));
  model.add_dummy_prefix = keys.boolean("add_space_prefix", true);
  model.remove_extra_whitespaces = keys.boolean("remove_extra_whitespaces", true);
  Pipeline made = sentencepiece_pipeline(model, "tokenizer.ggml");
  pipeline.normalizer = std::move(made.normalizer), pipeline.model = std::move(made.model), pipeline.decoder = std::move(made.decoder);
  pipeline.unk_id = made.unk_id;
}

inline Pipeline read_gguf(const std::string& path) {
  const GgufFile file = GgufFile::open(path);
  const GgufKeys keys(file);
  const std::string model = keys.at("model").string();
  const bool sentencepiece = model == "llama", wordpiece = model == "bert", unigram = model == "t5";
  if (!sentencepiece && !wordpiece && !unigram && model != "gpt2") {
    const std::vector<std::string> known = {"gpt2", "llama", "bert", "t5"};
    throw FormatError(path, -1, "tokenizer.ggml.model \"" + model + "\" is not supported" + did_you_mean(model, known, "supported are"));
  }
  std::vector<std::pair<std::string, std::int32_t>> tokens;
  for (const std::string_view token : keys.at("tokens").strings()) tokens.emplace_back(token, static_cast<std::int32_t>(tokens.size()));
  if (wordpiece) tokens = bert_tokens(std::move(tokens));

  Pipeline pipeline;
  pipeline.bos_id = keys.token("bos_token_id", tokens.size());
  pipeline.eos_id = keys.token("eos_token_id", tokens.size());
  pipeline.unk_id = keys.token("unknown_token_id", tokens.size());
  pipeline.pad_id = keys.token("padding_token_id", tokens.size());
  for (const char* key : {"eot_token_id", "eom_token_id"})
    if (const auto id = keys.token(key, tokens.size())) pipeline.eos_ids.push_back(*id);
  if (const GgufValue* text = file.find("tokenizer.chat_template")) pipeline.chat_template = text->string();

  if (const GgufValue* types = keys.find("token_type")) {
    if (types->integers().size() != tokens.size())
      throw FormatError(path, -1, "there are " + std::to_string(tokens.size()) + " tokens and " + std::to_string(types->integers().size()) + " token types");
    for (std::size_t i = 0; i < tokens.size(); i++) {
      const std::int64_t type = types->integers()[i];
      if (is_added(type)) pipeline.added_tokens.push_back({.id = tokens[i].second, .content = tokens[i].first, .special = type != gguf_user_defined});
    }
  }
  bool add_bos = sentencepiece || wordpiece;
  if (wordpiece) {  // [CLS] and [SEP] have keys of their own, of which the second is misspelt by those who write it
    if (const auto id = keys.token("cls_token_id", tokens.size()); id && !pipeline.bos_id) pipeline.bos_id = id;
    for (const char* key : {"seperator_token_id", "separator_token_id"})
      if (const auto id = keys.token(key, tokens.size())) pipeline.eos_id = id;
  }
  Vocabulary vocabulary(tokens);
  if (wordpiece)
    read_wordpiece(std::move(vocabulary), pipeline);
  else if (unigram)
    read_unigram(keys, tokens, pipeline);
  else if (sentencepiece)
    read_sentencepiece(keys, std::move(vocabulary), pipeline);
  else
    read_byte_level(keys, std::move(vocabulary), pipeline, add_bos);
  add_bos = keys.boolean("add_bos_token", add_bos);
  const bool add_eos = keys.boolean(wordpiece ? "add_sep_token" : "add_eos_token", wordpiece || unigram);
  for (const auto& [wanted, id, key] : {std::tuple(add_bos, pipeline.bos_id, "bos"), std::tuple(add_eos, pipeline.eos_id, "eos")})
    if (wanted && !id)
      throw FormatError(path, -1, std::string("the file wants a ") + key + " token and does not say which (tokenizer.ggml." + key + "_token_id)");
  if (add_bos || add_eos) {
    std::vector<std::int32_t> before, after;
    if (add_bos) before.push_back(*pipeline.bos_id);
    if (add_eos) after.push_back(*pipeline.eos_id);
    if (wordpiece) {  // BERT begins a pair once
      std::vector<Template::Step> single = {{.special = before}, {.text = 0}, {.special = after}}, pair = single;
      pair.push_back({.text = 1, .type_id = 1});
      pair.push_back({.special = after, .type_id = 1});
      pipeline.post_processor = std::make_unique<Template>(std::move(single), std::move(pair));
    } else {
      pipeline.post_processor = std::make_unique<Template>(std::move(before), std::move(after));
    }
  }
  return pipeline;
}

}  // namespace peft::tokenizer::detail
