// SPDX-License-Identifier: Apache-2.0
// An encoder-decoder small enough for central differences: T5's relative positions and cross-attention on the blocks of the tiny transformer.
#pragma once

#include "support/tiny_transformer.hpp"

namespace peft::testing {

/// Frozen. `size` is of the decoder.
template <Scalar T>
Transformer<T> tiny_encoder_decoder(const TinyShape& size = {}, std::int64_t encoder_layers = 2, std::uint64_t seed = 7) {
  TinyShape encoder_size = size;
  encoder_size.layers = encoder_layers;
  Transformer<T> m = tiny_transformer<T>(size, seed), encoder = tiny_transformer<T>(encoder_size, seed + 1), across = tiny_transformer<T>(size, seed + 2);
  m.config.model_type = "t5", m.config.head.task = TaskType::seq_2_seq_lm, m.config.num_encoder_layers = encoder_layers;
  for_each_site(encoder, [](const std::string&, auto& site) {
    if (!site.path.empty()) site.path = "encoder." + site.path;
  });
  for (Block<T>& block : encoder.layers) block.self_attn.rotary = nullptr, block.self_attn.core.shape.causal = false;
  for (std::size_t l = 0; l < m.layers.size(); l++) {
    Block<T>&block = m.layers[l], &source = across.layers[l];
    for_each_site(source.self_attn, [](const std::string&, auto& site) {
      if (const std::size_t at = site.path.find("self_attn"); at != std::string::npos) site.path.replace(at, 9, "cross_attn");
    });
    block.self_attn.rotary = source.self_attn.rotary = nullptr;
    source.self_attn.core.shape.causal = false, source.self_attn.cross = true;
    block.cross_attn_layernorm = source.input_layernorm, block.cross_attn_layernorm->path = "model.layers." + std::to_string(l) + ".cross_attn_layernorm";
    block.cross_attn = source.self_attn;
    block.cross_attention_join.emplace();
  }
  Random random(seed + 3);
  const auto positions = [&](const std::string& path, bool bidirectional) {
    RelativePositions<T> p;
    Tensor<T> values({8, size.heads});
    for (T& value : values.span()) value = T(random.normal());
    p.weight = Parameter<T>(std::move(values)), p.path = path, p.max_distance = 16, p.bidirectional = bidirectional;
    return p;
  };
  m.encoder_positions = positions("encoder.relative_attention_bias", true);
  m.relative_positions = positions("model.relative_attention_bias", false);
  m.encoder_layers = std::move(encoder.layers), m.encoder_norm = encoder.norm;
  return m;
}

}  // namespace peft::testing
