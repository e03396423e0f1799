// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/models/impl/decoder_fields.hpp"
#include "peft/models/phi3.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig phi3_from_json(const Json& json) {
  const ConfigFields f(json);
  TransformerConfig c = decoder_from_json(json, "phi3", {.max_position_embeddings = 4096, .rms_norm_eps = 1e-5, .partial_rotary_factor = 1});
  c.attention.fused_qkv = true, c.mlp.fused_gate_up = true;
  c.attention.sliding_window = f.integer("sliding_window", 0);
  return c;
}
PEFT_INLINE Json phi3_to_json(const TransformerConfig& c) {
  Json j = decoder_to_json(c, "Phi3");
  j.set("sliding_window", c.attention.sliding_window > 0 ? Json(c.attention.sliding_window) : Json());
  j.set("original_max_position_embeddings", Json(c.max_position_embeddings));
  return j;
}

inline constexpr std::array<TensorName, 11> phi3_names = {{
    {"embed_tokens", "model.embed_tokens"},
    {"layers.{}.input_layernorm", "model.layers.{}.input_layernorm"},
    {"layers.{}.self_attn.qkv_proj", "model.layers.{}.self_attn.qkv_proj"},
    {"layers.{}.self_attn.o_proj", "model.layers.{}.self_attn.o_proj"},
    {"layers.{}.post_attention_layernorm", "model.layers.{}.post_attention_layernorm"},
    {"layers.{}.mlp.gate_up_proj", "model.layers.{}.mlp.gate_up_proj"},
    {"layers.{}.mlp.down_proj", "model.layers.{}.mlp.down_proj"},
    {"norm", "model.norm"},
    {"causal_lm.out", "lm_head"},
    {"seq_cls.out", "score"},
    {"token_cls.out", "score"},
}};

}  // namespace detail

PEFT_INLINE const Architecture& phi3_architecture() {
  static const Architecture phi3 = {"phi3", nullptr, "model", detail::phi3_from_json, detail::phi3_to_json, nullptr, detail::phi3_names};
  return phi3;
}

}  // namespace peft
