// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <string>
#include <string_view>

#include "peft/models/gguf_metadata.hpp"
#include "peft/models/impl/gguf_fields.hpp"

namespace peft {

namespace detail {

/// Refuses what GGUF has no key for.
class GgufLimits {
 public:
  explicit GgufLimits(std::string architecture) : architecture_(std::move(architecture)) {}
  void must(bool holds, const std::string& what) const {
    if (!holds) throw NotSupported("gguf", what + " has no form in GGUF's architecture \"" + architecture_ + "\"");
  }
  const std::string& architecture() const { return architecture_; }

 private:
  std::string architecture_;
};

PEFT_INLINE void set_gguf_rope(GgufFileWriter& w, const GgufLimits& limits, const TransformerConfig& c) {
  const std::string a = limits.architecture() + ".rope.";
  limits.must(c.attention.rope.has_value(), "no rotary positions");
  const RopeConfig& rope = *c.attention.rope;
  limits.must(!rope.interleaved, "rotary pairs side by side");
  limits.must(rope.scaling != RopeScaling::dynamic, "rotary frequencies that depend on the length (dynamic)");
  limits.must(rope.partial_rotary_factor == 1, "partial_rotary_factor " + std::to_string(rope.partial_rotary_factor));
  w.f32(a + "freq_base", rope.theta);
  w.u32(a + "dimension_count", c.attention.head_dim);
  if (rope.scaling == RopeScaling::linear) w.text(a + "scaling.type", "linear"), w.f32(a + "scaling.factor", rope.factor);
  if (rope.scaling == RopeScaling::yarn) {
    const RopeConfig usual;
    limits.must(rope.beta_fast == usual.beta_fast && rope.beta_slow == usual.beta_slow, "a beta_fast or beta_slow of YaRN that is not 32 and 1");
    limits.must(rope.attention_factor == 0 && rope.truncate, "attention_factor or truncate of YaRN");
    w.text(a + "scaling.type", "yarn"), w.f32(a + "scaling.factor", rope.factor);
    w.u32(a + "scaling.original_context_length", rope.original_max_position_embeddings);
  }
}

}  // namespace detail

PEFT_INLINE std::vector<float> gguf_rope_divisors(const TransformerConfig& c) {
  if (!c.attention.rope) return {};
  const RopeConfig& rope = *c.attention.rope;
  std::vector<float> divisors(rope.divisors.begin(), rope.divisors.end());
  if (rope.scaling != RopeScaling::llama3) return divisors;
  RopeConfig plain;
  plain.theta = rope.theta;
  const std::vector<double> scaled = rope_frequencies(rope, c.attention.rotary_dim()), whole = rope_frequencies(plain, c.attention.rotary_dim());
  divisors.clear();
  for (std::size_t i = 0; i < whole.size(); i++) divisors.push_back(float(whole[i] / scaled[i]));
  return divisors;
}

PEFT_INLINE void set_gguf_metadata(GgufFileWriter& w, const TransformerConfig& c) {
  const detail::GgufLimits limits(gguf_architecture(architecture_of(c)));
  const std::string& name = limits.architecture();
  const std::string a = name + ".";
  const bool bert = name == "bert";
  limits.must(c.head.task == (bert ? TaskType::feature_extraction : TaskType::causal_lm), std::string("the task ") + peft::name(c.head.task));
  const bool gemma2 = name == "gemma2";
  const double scale = gemma2 ? detail::gguf_gemma2_scale(c) : 0;
  limits.must(std::abs(c.attention.scale - scale) < 1e-12, "a scale of attention of its own");
  for (std::int64_t l = 0; l < c.num_hidden_layers; l++)
    limits.must((c.attention.window(l) > 0) == (gemma2 && l % 2 == 0),
                "sliding_window " + std::to_string(c.attention.window(l)) + " in layer " + std::to_string(l));
  const Activation wanted = bert ? Activation::gelu : name == "gpt2" || name == "gemma" || gemma2 ? Activation::gelu_tanh : Activation::silu;
  limits.must(c.mlp.activation == wanted, "this activation of the MLP");
  // llama.cpp's Gemma reads no head: one in the file is a tensor too many.
  limits.must(c.head.tied || !(name == "gemma" || gemma2), "a head of its own (tie_word_embeddings false)");

  w.text("general.architecture", name), w.text("general.type", "model");
  if (!c.name.empty()) w.text("general.name", c.name);
  w.u32(a + "context_length", c.max_position_embeddings), w.u32(a + "embedding_length", c.hidden_size);
  w.u32(a + "block_count", c.num_hidden_layers), w.u32(a + "feed_forward_length", c.mlp.intermediate_size);
  w.u32(a + "attention.head_count", c.attention.num_attention_heads);
  w.u32(a + "vocab_size", c.vocab_size);
  if (name == "gpt2" || bert) {
    w.f32(a + "attention.layer_norm_epsilon", c.norm.eps);
  } else {
    limits.must(c.attention.qkv_bias == (name == "qwen2"), c.attention.qkv_bias ? "attention_bias" : "a qwen2 without biases");
    limits.must(!c.attention.o_bias && !c.mlp.bias, "attention_bias or mlp_bias");
    w.u32(a + "attention.head_count_kv", c.attention.num_key_value_heads);
    w.u32(a + "attention.key_length", c.attention.head_dim), w.u32(a + "attention.value_length", c.attention.head_dim);
    w.f32(a + "attention.layer_norm_rms_epsilon", c.norm.eps);
    detail::set_gguf_rope(w, limits, c);
  }
  if (bert) w.boolean(a + "attention.causal", false), w.u32("tokenizer.ggml.token_type_count", c.embedding.token_types);
  if (gemma2) {
    limits.must(c.attention.softcap > 0 && c.head.softcap > 0, "attn_logit_softcapping or final_logit_softcapping of null");
    w.f32(a + "attn_logit_softcapping", c.attention.softcap), w.f32(a + "final_logit_softcapping", c.head.softcap);
    w.u32(a + "attention.sliding_window", c.attention.sliding_window);
  }
  const auto id = [&](const char* key, std::int64_t value) {
    if (value >= 0) w.u32(std::string("tokenizer.ggml.") + key, value);
  };
  id("bos_token_id", c.bos_token_ids.empty() ? -1 : c.bos_token_ids[0]);
  id("eos_token_id", c.eos_token_ids.empty() ? -1 : c.eos_token_ids[0]);
  if (c.eos_token_ids.size() > 1) id("eot_token_id", c.eos_token_ids[1]);
  if (c.eos_token_ids.size() > 2) id("eom_token_id", c.eos_token_ids[2]);
  id("padding_token_id", c.pad_token_id);
}

}  // namespace peft
