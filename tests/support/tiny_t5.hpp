// SPDX-License-Identifier: Apache-2.0
// An encoder-decoder small enough to follow, with random weights and the names that a T5 has in its file.
#pragma once

#include "support/tiny_transformer.hpp"

namespace peft::testing {

/// T5 1.1 of two encoder and two decoder layers: 0 is the padding and what decoding starts from, 1 ends a text.
template <Scalar T>
Transformer<T> tiny_t5(std::int64_t vocab = 24, std::int64_t hidden = 16, std::uint64_t seed = 7) {
  Random random(seed);
  constexpr std::int64_t heads = 2, buckets = 6, layers = 2;
  const std::int64_t dim = hidden / heads, inner = 2 * hidden;
  const auto draw = [&](const Shape& shape, double deviation, double mean = 0) {
    Tensor<T> values(shape);
    for (T& value : values.span()) value = T(mean + deviation * random.normal());
    return Parameter<T>(std::move(values));
  };
  const auto linear = [&](const std::string& path, std::int64_t out, std::int64_t in) {
    return Linear<T>(draw({out, in}, 1.5 / std::sqrt(double(in))), {}, path);
  };
  const auto norm = [&](const std::string& path) {
    Norm<T> n;
    n.weight = draw({hidden}, 0.2, 1), n.path = path, n.eps = T(1e-6);
    return n;
  };
  Transformer<T> m;
  TransformerConfig& c = m.config;
  c.model_type = "t5", c.vocab_size = vocab, c.hidden_size = hidden, c.num_hidden_layers = c.num_encoder_layers = layers, c.max_position_embeddings = 512;
  c.norm.eps = 1e-6;
  c.attention.num_attention_heads = c.attention.num_key_value_heads = heads, c.attention.head_dim = dim, c.attention.scale = 1;
  c.attention.relative_buckets = buckets, c.attention.relative_max_distance = 12;
  c.mlp = {MlpKind::gated, Activation::gelu_tanh, inner, false, false};
  c.head.task = TaskType::seq_2_seq_lm, c.head.tied = false;
  c.pad_token_id = c.decoder_start_token_id = 0, c.eos_token_ids = {1};
  m.embed_tokens.weight = draw({vocab, hidden}, 1), m.embed_tokens.path = "shared";
  const auto attention = [&](const std::string& path, std::int64_t layer, bool causal) {
    Attention<T> a;
    a.q_proj = linear(path + ".q", hidden, hidden), a.k_proj = linear(path + ".k", hidden, hidden);
    a.v_proj = linear(path + ".v", hidden, hidden), a.o_proj = linear(path + ".o", hidden, hidden);
    a.core.shape = {heads, heads, dim, 1, causal, 0};
    a.layer = layer, a.path = path;
    for (T& w : a.q_proj.weight.value().span()) w /= T(std::sqrt(double(dim)));  // T5 does not scale scores: its queries are small
    return a;
  };
  const auto stack = [&](const std::string& name, bool decoder) {
    std::vector<Block<T>> blocks;
    for (std::int64_t l = 0; l < layers; l++) {
      const std::string path = name + ".block." + std::to_string(l) + ".layer.", mlp = path + (decoder ? "2" : "1");
      Block<T> b;
      b.input_layernorm = norm(path + "0.layer_norm");
      b.self_attn = attention(path + "0.SelfAttention", l, decoder);
      if (decoder) {
        b.cross_attn_layernorm = norm(path + "1.layer_norm");
        b.cross_attn = attention(path + "1.EncDecAttention", l, false);
        b.cross_attn->cross = true;
        b.cross_attention_join.emplace();
      }
      b.post_attention_layernorm = norm(mlp + ".layer_norm");
      b.mlp.act = Activation::gelu_tanh, b.mlp.path = mlp + ".DenseReluDense";
      b.mlp.gate_proj = linear(b.mlp.path + ".wi_0", inner, hidden), b.mlp.up_proj = linear(b.mlp.path + ".wi_1", inner, hidden);
      b.mlp.down_proj = linear(b.mlp.path + ".wo", hidden, inner);
      blocks.push_back(std::move(b));
    }
    return blocks;
  };
  const auto positions = [&](const std::string& name, bool bidirectional) {
    RelativePositions<T> p;
    p.path = name + ".block.0.layer.0.SelfAttention.relative_attention_bias";
    p.weight = draw({buckets, heads}, 0.5), p.max_distance = 12, p.bidirectional = bidirectional;
    return p;
  };
  m.encoder_positions = positions("encoder", true), m.encoder_layers = stack("encoder", false), m.encoder_norm = norm("encoder.final_layer_norm");
  m.relative_positions = positions("decoder", false), m.layers = stack("decoder", true), m.norm = norm("decoder.final_layer_norm");
  m.lm_head = linear("lm_head", vocab, hidden);
  return m;
}

/// Logits of all of the decoder's rows, (ids, vocab), in one forward without caches.
template <Scalar T>
Tensor<T> decoder_logits(const Transformer<T>& model, const std::vector<std::int32_t>& source, const std::vector<std::int32_t>& ids, Pass<T> pass = {}) {
  pass = pass_over<T>({std::int64_t(ids.size())}, std::move(pass));
  model.encode(pass, Sequences::of_lengths(std::vector<std::int64_t>{std::int64_t(source.size())}), source);
  const PassScope<T> scope(pass);
  return model.logits(model.hidden_states(ids)).value();
}

}  // namespace peft::testing
