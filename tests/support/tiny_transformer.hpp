// SPDX-License-Identifier: Apache-2.0
// Transformers small enough for central differences, with random weights and the names that a Llama has in its file.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "peft/nn/transformer.hpp"

namespace peft::testing {

struct TinyShape {
  std::int64_t vocab = 11, hidden = 8, layers = 2, heads = 2, kv_heads = 1, inner = 12;
  bool biases = false;  // in every Linear, and in layer norms instead of RMS norms
  bool gated = true, tied = false;
  std::int64_t window = 0;
};

/// Frozen.
template <Scalar T>
Transformer<T> tiny_transformer(const TinyShape& size = {}, std::uint64_t seed = 7) {
  Random random(seed);
  const auto draw = [&](const Shape& shape, double deviation, double mean = 0) {
    Tensor<T> values(shape);
    for (T& value : values.span()) value = T(mean + deviation * random.normal());
    return Parameter<T>(std::move(values));
  };
  const auto linear = [&](const std::string& path, std::int64_t out, std::int64_t in) {
    Parameter<T> weight = draw({out, in}, 1 / std::sqrt(double(in)));
    return Linear<T>(std::move(weight), size.biases ? draw({out}, 0.1) : Parameter<T>(), path);
  };
  const auto norm = [&](const std::string& path) {
    Norm<T> n;
    n.weight = draw({size.hidden}, 0.2, 1), n.path = path;
    if (size.biases) n.kind = NormKind::layer, n.bias = draw({size.hidden}, 0.1);
    return n;
  };
  const std::int64_t dim = size.hidden / size.heads, kv = size.kv_heads * dim;
  Transformer<T> m;
  m.config.model_type = "llama";
  m.config.vocab_size = size.vocab, m.config.hidden_size = size.hidden, m.config.num_hidden_layers = size.layers;
  m.config.attention.num_attention_heads = size.heads, m.config.attention.num_key_value_heads = size.kv_heads, m.config.attention.head_dim = dim;
  m.config.mlp.intermediate_size = size.inner, m.config.head.tied = size.tied;
  m.embed_tokens.weight = draw({size.vocab, size.hidden}, 1), m.embed_tokens.path = "model.embed_tokens";
  const auto rotary = std::make_shared<Rotary<T>>(rope_frequencies({}, dim), dim, false);
  for (std::int64_t l = 0; l < size.layers; l++) {
    const std::string path = "model.layers." + std::to_string(l);
    Block<T> b;
    b.input_layernorm = norm(path + ".input_layernorm");
    b.self_attn.q_proj = linear(path + ".self_attn.q_proj", size.hidden, size.hidden), b.self_attn.k_proj = linear(path + ".self_attn.k_proj", kv, size.hidden);
    b.self_attn.v_proj = linear(path + ".self_attn.v_proj", kv, size.hidden), b.self_attn.o_proj = linear(path + ".self_attn.o_proj", size.hidden, size.hidden);
    b.self_attn.core.shape = {size.heads, size.kv_heads, dim, 1 / std::sqrt(double(dim)), true, size.window};
    b.self_attn.rotary = rotary, b.self_attn.layer = l, b.self_attn.path = path + ".self_attn";
    b.post_attention_layernorm = norm(path + ".post_attention_layernorm");
    b.mlp.kind = size.gated ? MlpKind::gated : MlpKind::plain;
    if (size.gated) b.mlp.gate_proj = linear(path + ".mlp.gate_proj", size.inner, size.hidden);
    b.mlp.up_proj = linear(path + ".mlp.up_proj", size.inner, size.hidden), b.mlp.down_proj = linear(path + ".mlp.down_proj", size.hidden, size.inner);
    b.mlp.path = path + ".mlp", b.attention_join.path = path + ".attention_join", b.mlp_join.path = path + ".mlp_join";
    m.layers.push_back(std::move(b));
  }
  m.norm = norm("model.norm");
  m.lm_head = size.tied ? Linear<T>(m.embed_tokens.weight, {}, "lm_head") : linear("lm_head", size.vocab, size.hidden);
  return m;
}

/// Token ids 0 … vocab − 1, as many as the sequences have rows.
inline std::vector<std::int32_t> random_ids(std::int64_t n, std::int64_t vocab, std::uint64_t seed = 3) {
  Random random(seed);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < n; i++) ids.push_back(std::int32_t(random.below(std::uint64_t(vocab))));
  return ids;
}
/// Some of them without a label.
inline std::vector<std::int32_t> random_labels(std::int64_t n, std::int64_t vocab, std::uint64_t seed = 4) {
  std::vector<std::int32_t> labels = random_ids(n, vocab, seed);
  for (std::size_t i = 0; i < labels.size(); i += 3) labels[i] = ignore_index;
  return labels;
}

/// A pass over sequences of these lengths.
template <Scalar T>
Pass<T> pass_over(const std::vector<std::int64_t>& lengths, Pass<T> pass = {}) {
  pass.sequences = Sequences::of_lengths(lengths);
  return pass;
}
template <Scalar T>
Tensor<T> hidden_states(const Transformer<T>& model, std::span<const std::int32_t> ids, const Pass<T>& pass) {
  const PassScope<T> scope(pass);
  return model.hidden_states(ids).value();
}

}  // namespace peft::testing
