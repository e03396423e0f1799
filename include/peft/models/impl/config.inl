// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "peft/io/json.hpp"
#include "peft/models/bert.hpp"
#include "peft/models/bloom.hpp"
#include "peft/models/chatglm.hpp"
#include "peft/models/config.hpp"
#include "peft/models/gemma.hpp"
#include "peft/models/glm.hpp"
#include "peft/models/gpt2.hpp"
#include "peft/models/gpt_neox.hpp"
#include "peft/models/llama.hpp"
#include "peft/models/mistral.hpp"
#include "peft/models/opt.hpp"
#include "peft/models/phi3.hpp"
#include "peft/models/qwen.hpp"
#include "peft/models/t5.hpp"

namespace peft {

// Whichever of their headers was included first is not through yet: it waits for this file.
const Architecture& bert_architecture();
const Architecture& bloom_architecture();
const Architecture& chatglm_architecture();
const Architecture& chatglm_6b_architecture();
const Architecture& distilbert_architecture();
const Architecture& gemma_architecture();
const Architecture& gemma2_architecture();
const Architecture& glm_architecture();
const Architecture& glm4_architecture();
const Architecture& gpt2_architecture();
const Architecture& gpt_neox_architecture();
const Architecture& llama_architecture();
const Architecture& mistral_architecture();
const Architecture& mt5_architecture();
const Architecture& opt_architecture();
const Architecture& phi3_architecture();
const Architecture& qwen2_architecture();
const Architecture& qwen3_architecture();
const Architecture& roberta_architecture();
const Architecture& t5_architecture();
const Architecture& xlm_roberta_architecture();

PEFT_INLINE std::span<const Architecture> architectures() {
  static const std::array<Architecture, 21> all = {
      bert_architecture(),    bloom_architecture(), chatglm_architecture(),    chatglm_6b_architecture(), distilbert_architecture(), gemma_architecture(),
      gemma2_architecture(),  glm_architecture(),   glm4_architecture(),       gpt2_architecture(),       gpt_neox_architecture(),   llama_architecture(),
      mistral_architecture(), mt5_architecture(),   opt_architecture(),        phi3_architecture(),       qwen2_architecture(),      qwen3_architecture(),
      roberta_architecture(), t5_architecture(),    xlm_roberta_architecture()};
  return all;
}

namespace detail {
PEFT_INLINE std::vector<std::string> architecture_names(bool gguf) {
  std::vector<std::string> names;
  for (const Architecture& a : architectures())
    if (gguf ? a.gguf != nullptr : *a.variant == 0) names.emplace_back(gguf ? a.gguf : a.model_type);
  return names;
}
}  // namespace detail

PEFT_INLINE const Architecture& architecture_of_model_type(std::string_view model_type) {
  for (const Architecture& a : architectures())
    if (model_type == a.model_type) return a;
  throw NotSupported("load_model", "model_type \"" + std::string(model_type) + "\" is not supported" +
                                       did_you_mean(model_type, detail::architecture_names(false), "supported are"));
}

PEFT_INLINE const Architecture& architecture_of(const Json& config) {
  const Json* type = config.get("model_type");
  if (!type) throw ConfigError("config", "model_type is missing");
  const Architecture& first = architecture_of_model_type(type->string());
  for (const Architecture& a : architectures())
    if (type->string() == a.model_type && a.own_key && config.get(a.own_key)) return a;
  return first;
}
PEFT_INLINE const Architecture& architecture_of(const TransformerConfig& config) {
  for (const Architecture& a : architectures())
    if (config.model_type == a.model_type && config.variant == a.variant) return a;
  return architecture_of_model_type(config.model_type);
}

PEFT_INLINE const Architecture& architecture_of_gguf(std::string_view name) {
  for (const Architecture& a : architectures())
    if (a.gguf && name == a.gguf) return a;
  throw NotSupported("load_model", "general.architecture \"" + std::string(name) + "\" is not supported" +
                                       did_you_mean(name, detail::architecture_names(true), "supported are"));
}

PEFT_INLINE const char* gguf_architecture(const Architecture& architecture) {
  if (architecture.gguf) return architecture.gguf;
  for (const Architecture& other : architectures())
    if (other.gguf && other.names.data() == architecture.names.data()) return other.gguf;
  throw NotSupported(
      "gguf", "model_type \"" + std::string(architecture.model_type) + "\" as GGUF; supported are" + [] {
        std::string all;
        for (const std::string& known : detail::architecture_names(true)) all += (all.empty() ? " " : ", ") + known;
        return all;
      }());
}

PEFT_INLINE void validate(const TransformerConfig& c) {
  const auto within = [](const char* key, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (value < low || value > high)
      throw ConfigError("config", std::string(key) + " is " + std::to_string(value) + "; allowed are " + std::to_string(low) + " … " + std::to_string(high));
  };
  within("vocab_size", c.vocab_size, 1, 1 << 28);
  within("hidden_size", c.hidden_size, 1, 1 << 20);
  within("num_hidden_layers", c.num_hidden_layers, 1, 1 << 12);
  within("num_encoder_layers", c.num_encoder_layers, 0, 1 << 12);
  within("intermediate_size", c.mlp.intermediate_size, 1, 1 << 22);
  const AttentionConfig& a = c.attention;
  within("num_attention_heads", a.num_attention_heads, 1, 1 << 12);
  within("num_key_value_heads", a.num_key_value_heads, 1, a.num_attention_heads);
  within("head_dim", a.head_dim, 1, 1 << 14);
  if (a.num_attention_heads % a.num_key_value_heads)
    throw ConfigError("config", "num_key_value_heads " + std::to_string(a.num_key_value_heads) + " does not divide num_attention_heads " +
                                    std::to_string(a.num_attention_heads));
  if (a.rope && !(a.rope->partial_rotary_factor > 0 && a.rope->partial_rotary_factor <= 1))
    throw ConfigError("config", "partial_rotary_factor is " + std::to_string(a.rope->partial_rotary_factor) + "; allowed is 0 < factor ≤ 1");
  if (a.rope && (a.head_dim % 2 || a.rotary_dim() < 2 || a.rotary_dim() % 2))
    throw ConfigError("config", a.rope->partial_rotary_factor == 1
                                    ? "head_dim " + std::to_string(a.head_dim) + " is odd; rotary positions turn pairs"
                                    : "partial_rotary_factor " + std::to_string(a.rope->partial_rotary_factor) + " of heads of " + std::to_string(a.head_dim) +
                                          " is no even number; rotary positions turn pairs");
  if (a.rope && a.rope->two_dimensional && a.head_dim % 4)
    throw ConfigError("config", "head_dim " + std::to_string(a.head_dim) + " is no multiple of 4; positions in two dimensions turn pairs of its halves");
  if (const auto& blank = c.blank_tokens) {
    within("bos_token_id", blank->start, 0, c.vocab_size - 1);
    within("gmask_token_id", blank->gmask, 0, c.vocab_size - 1);
    within("mask_token_id", blank->mask, 0, c.vocab_size - 1);
  }
  for (const auto& [key, value] : {std::pair("attn_logit_softcapping", a.softcap), std::pair("final_logit_softcapping", c.head.softcap)})
    if (!(value >= 0)) throw ConfigError("config", std::string(key) + " is " + std::to_string(value) + "; a positive number is wanted, or none");
  within("sliding_window", a.sliding_window, 0, std::int64_t{1} << 40);
  if (!a.sliding_layers.empty() && std::int64_t(a.sliding_layers.size()) != c.num_hidden_layers)
    throw ConfigError("config",
                      "layer_types has " + std::to_string(a.sliding_layers.size()) + " entries for " + std::to_string(c.num_hidden_layers) + " layers");
  if (a.rope && !(a.rope->theta > 0)) throw ConfigError("config", "rope_theta is " + std::to_string(a.rope->theta) + "; a positive number is wanted");
  if (a.rope && !(a.rope->factor > 0))
    throw ConfigError("config", "the rope scaling factor is " + std::to_string(a.rope->factor) + "; a positive number is wanted");
  if (a.relative_buckets != 0) {
    within("relative_attention_num_buckets", a.relative_buckets, 4, 1 << 16);
    within("relative_attention_max_distance", a.relative_max_distance, a.relative_buckets / 2 + 1, 1 << 24);
  }
  within("max_position_embeddings", c.embedding.positions, 0, 1 << 24);
  within("type_vocab_size", c.embedding.token_types, 0, 1 << 16);
  if (c.embedding.positions > 0 && c.embedding.first_position >= c.embedding.positions)
    throw ConfigError("config", "max_position_embeddings " + std::to_string(c.embedding.positions) + " leaves no position; the first one is row " +
                                    std::to_string(c.embedding.first_position));
  if (c.head.task != TaskType::feature_extraction) within("num_labels", c.head_size(), 1, 1 << 28);
  if (!(c.norm.eps >= 0 && c.norm.eps < 1)) throw ConfigError("config", "the norm's epsilon is " + std::to_string(c.norm.eps) + "; allowed is 0 ≤ ε < 1");
}

PEFT_INLINE std::string tensor_name(std::string_view pattern, std::int64_t layer) {
  std::string name(pattern);
  if (const std::size_t at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(layer));
  return name;
}

PEFT_INLINE const char* name(TaskType task) {
  static constexpr std::array<const char*, 7> names = {"causal_lm", "masked_lm", "seq_cls", "token_cls", "question_ans", "feature_extraction", "seq_2_seq_lm"};
  return names[std::size_t(task)];
}

PEFT_INLINE std::string module_path(const Architecture& architecture, TaskType task, std::string_view ours, std::int64_t layer) {
  for (const TensorName& n : architecture.names) {
    if (ours != n.ours) continue;
    const std::string path = tensor_name(n.huggingface, layer), prefix = std::string(architecture.prefix) + ".";
    return task == TaskType::feature_extraction && path.starts_with(prefix) ? path.substr(prefix.size()) : path;
  }
  throw NotSupported("load_model",
                     "a model of type \"" + std::string(architecture.model_type) + "\" for the task " + name(task) + ": it has no module " + std::string(ours));
}

namespace detail {
// The layer where `path` is `pattern` with a number for {}; −1 if it is not.
PEFT_INLINE std::int64_t layer_of(std::string_view pattern, std::string_view path) {
  const std::size_t at = pattern.find("{}");
  if (at == std::string_view::npos) return path == pattern ? 0 : -1;
  const std::string_view front = pattern.substr(0, at), back = pattern.substr(at + 2);
  if (!path.starts_with(front) || !path.ends_with(back) || path.size() <= front.size() + back.size()) return -1;
  std::int64_t layer = 0;
  for (const char c : path.substr(front.size(), path.size() - front.size() - back.size())) {
    if (c < '0' || c > '9' || layer > 1 << 20) return -1;
    layer = layer * 10 + (c - '0');
  }
  return layer;
}
}  // namespace detail

PEFT_INLINE FoundName find_name(const Architecture& architecture, std::string_view path) {
  const std::string with_prefix = std::string(architecture.prefix) + "." + std::string(path);
  for (const std::string_view wanted : {path, std::string_view(with_prefix)})
    for (const TensorName& n : architecture.names)
      if (const std::int64_t layer = detail::layer_of(n.huggingface, wanted); layer >= 0) return {&n, layer};
  return {};
}

PEFT_INLINE std::string name_in_file(const Architecture& architecture, const std::string& path) {
  for (const TensorName& n : architecture.names) {
    const std::string_view ours = n.ours;
    if (!ours.ends_with(".bias")) continue;
    for (const TensorName& module : architecture.names)
      if (ours.substr(0, ours.size() - 5) == module.ours && path == std::string(module.huggingface) + ".bias") return n.huggingface;
  }
  return path;
}

}  // namespace peft
