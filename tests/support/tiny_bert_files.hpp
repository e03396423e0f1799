// SPDX-License-Identifier: Apache-2.0
// A BERT without a head, as a complete Hugging Face directory that is small enough to train in a blink.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <list>
#include <string>
#include <vector>

#include "peft/core/random.hpp"
#include "peft/io/safetensors.hpp"
#include "tokenizer/small_tokenizer.hpp"

namespace peft::testing {

/// Ids from 0: what BERT puts around texts, then words and pieces.
inline const std::vector<std::string>& tiny_bert_vocabulary() {
  static const std::vector<std::string> all = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "a",     "film",  "the", "plot", "was",   "good",
                                               "bad",   "##s",   "##ly",  "anna",  "paris", "lives", "in",  ".",    "great", "dull"};
  return all;
}
inline std::string tiny_bert_tokenizer() {
  std::string vocab;
  for (std::size_t i = 0; i < tiny_bert_vocabulary().size(); i++)
    vocab += (i ? "," : "") + small::json_text(tiny_bert_vocabulary()[i]) + ":" + std::to_string(i);
  std::string added;
  for (int i = 0; i < 4; i++) added += (i ? "," : "") + small::added_json(i, tiny_bert_vocabulary()[std::size_t(i)]);
  const auto special = [](const char* name, int type) {
    return R"({"SpecialToken":{"id":")" + std::string(name) + R"(","type_id":)" + std::to_string(type) + "}}";
  };
  const auto sequence = [](const char* name, int type) {
    return R"({"Sequence":{"id":")" + std::string(name) + R"(","type_id":)" + std::to_string(type) + "}}";
  };
  const std::string single = special("[CLS]", 0) + "," + sequence("A", 0) + "," + special("[SEP]", 0);
  return small::json(
      R"("model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{)" + vocab + "}}", added,
      R"("normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},)"
      R"("pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"TemplateProcessing","single":[)" +
          single + R"(],"pair":[)" + single + "," + sequence("B", 1) + "," + special("[SEP]", 1) +
          R"(],"special_tokens":{"[CLS]":{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}},)");
}

/// Writes config.json, model.safetensors and tokenizer.json: two layers, random weights by `seed`; with or without a pooler.
inline void write_tiny_bert(const std::filesystem::path& directory, bool pooler = true, std::uint64_t seed = 7) {
  constexpr std::int64_t hidden = 16, inner = 24, positions = 32;
  std::filesystem::create_directories(directory);
  std::list<Tensor<float>> kept;
  std::vector<TensorToWrite> tensors;
  Random random(seed);
  const auto put = [&](const std::string& name, const Shape& shape, double mean = 0) {
    Tensor<float>& values = kept.emplace_back(shape);
    for (float& value : values.span()) value = float(mean + (shape.rank() == 2 ? 0.4 : 0.05) * random.normal());
    tensors.push_back({name, DType::f32, shape, values.data()});
  };
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in) { put(name + ".weight", {out, in}), put(name + ".bias", {out}); };
  const auto norm = [&](const std::string& name) { put(name + ".weight", {hidden}, 1), put(name + ".bias", {hidden}); };
  put("embeddings.word_embeddings.weight", {std::int64_t(tiny_bert_vocabulary().size()), hidden});
  put("embeddings.position_embeddings.weight", {positions, hidden});
  put("embeddings.token_type_embeddings.weight", {2, hidden});
  norm("embeddings.LayerNorm");
  for (int l = 0; l < 2; l++) {
    const std::string layer = "encoder.layer." + std::to_string(l) + ".";
    for (const char* name : {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"})
      linear(layer + name, hidden, hidden);
    norm(layer + "attention.output.LayerNorm"), norm(layer + "output.LayerNorm");
    linear(layer + "intermediate.dense", inner, hidden), linear(layer + "output.dense", hidden, inner);
  }
  if (pooler) linear("pooler.dense", hidden, hidden);
  write_safetensors((directory / "model.safetensors").string(), tensors, {{"format", "pt"}});
  std::ofstream(directory / "config.json") << R"({"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": 16,
"intermediate_size": 24, "max_position_embeddings": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "type_vocab_size": 2, "pad_token_id": 0,
"vocab_size": )" << tiny_bert_vocabulary().size()
                                           << "}\n";
  std::ofstream(directory / "tokenizer.json") << tiny_bert_tokenizer();
}

}  // namespace peft::testing
