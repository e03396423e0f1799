// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the readers of GGUF metadata share. Included by .inl files alone.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "peft/io/gguf.hpp"
#include "peft/nn/transformer.hpp"

namespace peft::detail {

/// Keys of one architecture: integer("block_count") is "llama.block_count"; a key with a dot in a known group is taken as it is.
class GgufFields {
 public:
  GgufFields(const GgufFile& file, std::string architecture) : file_(file), prefix_(std::move(architecture) + ".") {}
  const GgufValue* find(const std::string& key) const {
    const bool whole = key.starts_with("general.") || key.starts_with("tokenizer.");
    return file_.find(whole ? key : prefix_ + key);
  }
  std::int64_t integer(const std::string& key) const { return need(key).integer(); }
  std::int64_t integer(const std::string& key, std::int64_t otherwise) const { return find(key) ? integer(key) : otherwise; }
  double number(const std::string& key) const { return need(key).number(); }
  double number(const std::string& key, double otherwise) const { return find(key) ? number(key) : otherwise; }
  std::string text(const std::string& key, const std::string& otherwise) const { return find(key) ? find(key)->string() : otherwise; }
  bool has_tensor(const std::string& name) const { return file_.find_tensor(name) != nullptr; }
  const GgufFile& file() const { return file_; }
  /// Rows of the embedding: the true size of the vocabulary, whatever the metadata say.
  std::int64_t vocabulary() const {
    if (const GgufTensor* table = file_.find_tensor("token_embd.weight"); table && table->shape.rank() == 2) return table->shape[0];
    return integer("vocab_size");
  }

 private:
  const GgufValue& need(const std::string& key) const {
    if (const GgufValue* value = find(key)) return *value;
    throw ConfigError("config", "the key " + prefix_ + key + " is missing");
  }
  const GgufFile& file_;
  std::string prefix_;
};

inline RopeConfig gguf_rope_config(const GgufFields& f, std::int64_t head_dim) {
  RopeConfig rope;
  rope.theta = f.number("rope.freq_base", 10000);
  if (const std::int64_t rotary = f.integer("rope.dimension_count", head_dim); rotary != head_dim)
    throw NotSupported("config", "rope.dimension_count " + std::to_string(rotary) + " of a head of " + std::to_string(head_dim) +
                                     " is not supported: a part of a head that turns");
  const std::string scaling = f.text("rope.scaling.type", "none");
  if (scaling == "linear") {
    rope.scaling = RopeScaling::linear, rope.factor = f.number("rope.scaling.factor", 1);
  } else if (scaling == "yarn") {
    rope.scaling = RopeScaling::yarn, rope.factor = f.number("rope.scaling.factor", 1);
    if (const double factor = f.number("rope.scaling.attn_factor", 1); factor != 1)
      throw NotSupported("config", "rope.scaling.attn_factor " + std::to_string(factor) + " is not supported; supported is 1");
    rope.original_max_position_embeddings = f.integer("rope.scaling.original_context_length", f.integer("context_length", 2048));
    if (rope.original_max_position_embeddings < 1)
      throw ConfigError("config",
                        "rope.scaling.original_context_length is " + std::to_string(rope.original_max_position_embeddings) + "; at least 1 is wanted");
  } else if (scaling != "none") {
    throw NotSupported("config", "rope.scaling.type \"" + scaling + "\" is not supported; supported are: none, linear, yarn");
  }
  if (const GgufTensor* factors = f.file().find_tensor("rope_freqs.weight")) {
    if (factors->dtype != DType::f32 || factors->shape.size() != head_dim / 2)
      throw ConfigError("config", "rope_freqs.weight is " + std::string(name(factors->dtype)) + " " + to_string(factors->shape) + ", wanted are " +
                                      std::to_string(head_dim / 2) + " numbers of F32");
    for (std::int64_t i = 0; i < head_dim / 2; i++) {
      float value;
      std::memcpy(&value, factors->data + 4 * i, 4);
      if (!(value > 0)) throw ConfigError("config", "rope_freqs.weight holds " + std::to_string(value) + "; positive numbers are wanted");
      rope.divisors.push_back(double(value));
    }
  }
  return rope;
}

/// The scale of Gemma 2's scores, for which there is no key: that of its 27 billion, which its readers know by the 46 layers, is of
/// hidden_size / heads and not of head_dim.
inline double gguf_gemma2_scale(const TransformerConfig& c) {
  const AttentionConfig& a = c.attention;
  return 1 / std::sqrt(c.num_hidden_layers == 46 ? double(c.hidden_size) / double(a.num_attention_heads) : double(a.head_dim));
}

inline void read_gguf_token_ids(const GgufFields& f, TransformerConfig& c) {
  c.pad_token_id = f.integer("tokenizer.ggml.padding_token_id", -1);
  c.embedding.padding_idx = std::int32_t(c.pad_token_id);
  if (f.find("tokenizer.ggml.bos_token_id")) c.bos_token_ids = {std::int32_t(f.integer("tokenizer.ggml.bos_token_id"))};
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    const std::string whole = std::string("tokenizer.ggml.") + key;
    if (!f.find(whole)) continue;
    const auto id = std::int32_t(f.integer(whole));
    if (std::find(c.eos_token_ids.begin(), c.eos_token_ids.end(), id) == c.eos_token_ids.end()) c.eos_token_ids.push_back(id);
  }
}

}  // namespace peft::detail
