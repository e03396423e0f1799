// SPDX-License-Identifier: Apache-2.0
// Models and a tokenizer small enough to follow by hand.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "peft/nn/transformer.hpp"
#include "peft/tokenizer/bpe.hpp"
#include "peft/tokenizer/pipeline.hpp"
#include "peft/tokenizer/tokenizer.hpp"

namespace tiny {

inline constexpr std::int32_t im_start = 0, im_end = 1;

/// Single characters, a few words, and "é" in its two bytes; ids are positions in this list.
inline const std::vector<std::string>& tokens() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> t = {"<|im_start|>", "<|im_end|>"};
    for (char c = 'a'; c <= 'z'; c++) t.emplace_back(1, c);
    for (const char* more : {"Ġ", "Ċ", ".", "Ã", "©", "th", "the", "Ġst", "op", "!"}) t.emplace_back(more);
    return t;
  }();
  return all;
}
inline std::int32_t id(std::string_view token) { return std::int32_t(std::find(tokens().begin(), tokens().end(), token) - tokens().begin()); }
inline std::int64_t vocab_size() { return std::int64_t(tokens().size()) + 2; }  // 40: models often have a few rows more than the tokenizer

inline peft::Tokenizer tokenizer(bool chat = false) {
  namespace tk = peft::tokenizer;
  std::vector<std::pair<std::string, std::int32_t>> vocabulary;
  for (std::size_t i = 0; i < tokens().size(); i++) vocabulary.emplace_back(tokens()[i], std::int32_t(i));
  tk::Pipeline p;
  p.added_tokens = {{.id = im_start, .content = "<|im_start|>", .special = true}, {.id = im_end, .content = "<|im_end|>", .special = true}};
  p.pre_tokenizer = std::make_unique<tk::ByteLevel>(false);
  p.model = std::make_unique<tk::Bpe>(tk::Vocabulary(vocabulary), std::vector<tk::Merge>{{id("t"), id("h"), id("th"), 0}, {id("th"), id("e"), id("the"), 1}});
  p.decoder = std::make_unique<tk::ByteLevelDecoder>();
  p.eos_id = im_end;
  if (chat)
    p.chat_template =
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  return peft::Tokenizer(std::move(p));
}

template <peft::Scalar T>
peft::Transformer<T> empty(std::int64_t vocab, std::int64_t hidden, std::int64_t layers, std::int64_t heads, std::int64_t kv_heads, std::int64_t inner,
                           double spread) {
  peft::Random random(7);
  const auto draw = [&](const peft::Shape& shape, double scale) {
    peft::Tensor<T> values(shape);
    for (T& v : values.span()) v = T(scale * random.normal());
    return peft::Parameter<T>(values);
  };
  const auto norm = [&](const std::string& path) {
    peft::Norm<T> n;
    n.weight = peft::Parameter<T>(peft::Tensor<T>({hidden}, T(1))), n.path = path;
    return n;
  };
  const std::int64_t d = hidden / heads;
  peft::Transformer<T> m;
  m.config.model_type = "llama";
  m.config.vocab_size = vocab, m.config.hidden_size = hidden, m.config.num_hidden_layers = layers, m.config.max_position_embeddings = 128;
  m.config.attention.num_attention_heads = heads, m.config.attention.num_key_value_heads = kv_heads, m.config.attention.head_dim = d;
  m.config.mlp.intermediate_size = inner;
  m.config.eos_token_ids = {im_end};
  m.embed_tokens.weight = draw({vocab, hidden}, 1), m.embed_tokens.path = "model.embed_tokens";
  const auto rotary = std::make_shared<peft::Rotary<T>>(peft::rope_frequencies({}, d), d, false);
  for (std::int64_t l = 0; l < layers; l++) {
    const std::string path = "model.layers." + std::to_string(l);
    const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in) {
      return peft::Linear<T>(draw({out, in}, spread / std::sqrt(double(in))), {}, path + "." + name);
    };
    peft::Block<T> b;
    b.input_layernorm = norm(path + ".input_layernorm"), b.post_attention_layernorm = norm(path + ".post_attention_layernorm");
    b.self_attn.q_proj = linear("self_attn.q_proj", hidden, hidden), b.self_attn.k_proj = linear("self_attn.k_proj", kv_heads * d, hidden);
    b.self_attn.v_proj = linear("self_attn.v_proj", kv_heads * d, hidden), b.self_attn.o_proj = linear("self_attn.o_proj", hidden, hidden);
    b.self_attn.rotary = rotary, b.self_attn.layer = l, b.self_attn.path = path + ".self_attn";
    b.self_attn.core.shape = {heads, kv_heads, d, 1 / std::sqrt(double(d)), true, 0};
    b.mlp.gate_proj = linear("mlp.gate_proj", inner, hidden), b.mlp.up_proj = linear("mlp.up_proj", inner, hidden);
    b.mlp.down_proj = linear("mlp.down_proj", hidden, inner);
    m.layers.push_back(std::move(b));
  }
  m.norm = norm("model.norm");
  m.lm_head = peft::Linear<T>(draw({vocab, hidden}, 1 / std::sqrt(double(hidden))), {}, "lm_head");
  return m;
}

/// Two layers with random weights, grouped queries, logits a few units apart.
template <peft::Scalar T = float>
peft::Transformer<T> random_model(std::int64_t vocab = vocab_size()) {
  peft::Transformer<T> m = empty<T>(vocab, 32, 2, 4, 2, 48, 1.5);
  for (T& w : m.lm_head.weight.value().span()) w *= 2;
  return m;
}

/// A model that says one token after the other: its likeliest next token is the next in `text`, by `margin` (logits of all others are 0);
/// a token at the end is followed by itself. Each token stands in `text` once.
inline peft::Transformer<float> parrot(const std::vector<std::int32_t>& text, float margin = 20) {
  const std::int64_t v = vocab_size();
  peft::Transformer<float> m = empty<float>(v, v, 1, 5, 5, 8, 0);  // the block adds nothing
  m.embed_tokens.weight.value().fill(0), m.lm_head.weight.value().fill(0);
  const float unit = std::sqrt(float(v));  // what the norm makes of a one
  for (std::int32_t i = 0; i < v; i++) m.embed_tokens.weight.value()(i, i) = 1;
  for (std::size_t i = 0; i < text.size(); i++) m.lm_head.weight.value()(i + 1 < text.size() ? text[i + 1] : text[i], text[i]) = margin / unit;
  return m;
}
inline std::vector<std::int32_t> ids_of(const std::vector<std::string>& text) {
  std::vector<std::int32_t> ids;
  for (const std::string& t : text) ids.push_back(id(t));
  return ids;
}

/// Logits of every row, without a cache: what cached decoding is compared with.
template <peft::Scalar T>
peft::Tensor<T> all_logits(const peft::Transformer<T>& model, const std::vector<std::int32_t>& ids, peft::Pass<T> pass = {}) {
  const std::int64_t length = std::int64_t(ids.size());
  pass.sequences = peft::Sequences::of_lengths(std::span(&length, 1));
  const peft::PassScope<T> scope(pass);
  return model.logits(model.hidden_states(ids)).value();
}

}  // namespace tiny
