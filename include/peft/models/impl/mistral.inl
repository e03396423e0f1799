// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/impl/decoder_fields.hpp"
#include "peft/models/impl/llama.inl"
#include "peft/models/mistral.hpp"

namespace peft {

namespace detail {

PEFT_INLINE TransformerConfig mistral_from_json(const Json& json) {
  TransformerConfig c = decoder_from_json(json, "mistral", {.max_position_embeddings = 131072, .num_key_value_heads = 8});
  // Absent is the class's own default; null is none.
  const Json* window = json.get("sliding_window");
  c.attention.sliding_window = !window ? 4096 : window->is_null() ? 0 : ConfigFields(json).integer("sliding_window");
  return c;
}
PEFT_INLINE Json mistral_to_json(const TransformerConfig& c) {
  Json j = decoder_to_json(c, "Mistral");
  j.set("sliding_window", c.attention.sliding_window > 0 ? Json(c.attention.sliding_window) : Json());
  return j;
}

}  // namespace detail

/// GGUF files of Mistral say that they are a Llama.
PEFT_INLINE const Architecture& mistral_architecture() {
  static const Architecture mistral = {"mistral", nullptr, "model", detail::mistral_from_json, detail::mistral_to_json, nullptr, detail::llama_names()};
  return mistral;
}

}  // namespace peft
