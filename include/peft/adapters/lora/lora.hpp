// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/lora/beginning.hpp"
#include "peft/adapters/lora/config.hpp"
#include "peft/adapters/lora/dora.hpp"
#include "peft/adapters/lora/update.hpp"
#include "peft/adapters/own_tensors.hpp"
#include "peft/adapters/trainable_tokens/token_rows.hpp"
#include "peft/nn/norm.hpp"

namespace peft {

// The method's part in add_adapter: what it puts on each kind of site.

inline LoraConfig resolved(LoraConfig config, std::string_view model_type) {
  validate(config);
  if (config.target_modules.empty()) {
    const auto names = default_lora_targets(model_type);
    if (names.empty())
      throw ConfigError("lora.attach", "target_modules is not set, and there is no default for model_type \"" + std::string(model_type) +
                                           "\"; name the modules, or say \"all-linear\"");
    config.target_modules = TargetModules(names);
  }
  return config;
}

template <Scalar T>
bool attach_adapter(const LoraConfig& config, Linear<T>& site, const AttachContext& context) {
  const bool chosen = targets(config, context.path, context.is_head);
  const bool own_bias = site.bias && (config.bias == "all" || (config.bias == "lora_only" && chosen));
  if (chosen) {
    Lora<T> lora = make_lora(config, site, context.path, context.at_site());
    const auto init = config.init_lora_weights.kind();
    if (init == InitLoraWeights::pissa || init == InitLoraWeights::olora)
      site.adapters.attach(context.id, on_residual(std::move(lora), site, init));
    else if (init == InitLoraWeights::loftq)
      site.adapters.attach(context.id, on_quantized(std::move(lora), site, config.init_lora_weights));
    else if (config.use_dora)
      site.adapters.attach(context.id, make_dora(std::move(lora), site));
    else if (config.lora_bias)
      site.adapters.attach(context.id, LoraWithBiasOfB<T>{std::move(lora), Parameter<T>(Tensor<T>::zeros({site.out_features()}), true)});
    else if (own_bias)
      site.adapters.attach(context.id, LoraWithBias<T>{std::move(lora), with_own_bias(site).own});
    else
      site.adapters.attach(context.id, std::move(lora));
  } else if (own_bias) {
    site.adapters.attach(context.id, with_own_bias(site));
  }
  return chosen;
}
template <Scalar T>
bool attach_adapter(const LoraConfig& config, Norm<T>& site, const AttachContext& context) {
  if (config.bias == "all" && site.bias) site.adapters.attach(context.id, with_own_bias(site));
  return false;
}
template <Scalar T>
bool attach_adapter(const LoraConfig& config, Embedding<T>& site, const AttachContext& context) {
  if (config.target_modules.all_linear() || !targets(config, context.path, false)) return false;
  if (config.lora_bias)
    throw NotSupported("lora.attach", "lora_bias on " + context.path + ", an Embedding; leave it out of target_modules (" + config.target_modules.text() + ")");
  if (config.init_lora_weights.kind() == InitLoraWeights::orthogonal)
    throw NotSupported("lora.attach", "init_lora_weights \"orthogonal\" on " + context.path + ", an Embedding; leave it out of target_modules (" +
                                          config.target_modules.text() + ")");
  const LoraScale scale = lora_scale(config, context.path);
  Random random = context.at_site();
  Tensor<T> A = Tensor<T>::zeros({scale.r, site.num_embeddings()}), B({site.embedding_dim(), scale.r});
  if (!LeaveUnfilled::on())
    for (T& b : B.span()) b = T(random.normal());
  if (config.init_lora_weights.kind() == InitLoraWeights::random)
    for (T& a : A.span()) a = T(random.normal());
  LoraEmbedding<T> lora{Parameter<T>(std::move(A), true), Parameter<T>(std::move(B), true), T(scale.scaling)};
  if (config.use_dora)
    site.adapters.attach(context.id, make_dora(std::move(lora), site));
  else
    site.adapters.attach(context.id, std::move(lora));
  return true;
}
/// What LoRA can sit on: for error messages.
template <Scalar T>
bool attachable(const LoraConfig&, const Linear<T>&) {
  return true;
}

/// Rows that train along with a LoRA (trainable_token_indices): of the input embedding, and of the head. A head that shares the embedding's tensor answers
/// with the embedding's rows, unless it has others of its own.
template <Scalar T>
struct LoraTokens {
  std::string embedding, head;  // paths
  std::vector<std::int64_t> of_embedding, of_head;
  bool head_follows = false;
  TokenRows<T> rows = {};                 // the embedding's
  static void describe(auto&, auto&&) {}  // visited where they sit
};
template <Scalar T>
LoraTokens<T> shared_part(const LoraConfig& config, const ModelInfo& info, Random) {
  LoraTokens<T> tokens{info.embedding, info.head, {}, {}};
  for (const auto& [module, ids] : config.trainable_token_indices)
    if (module.empty() || is_suffix_of(module, info.embedding))
      tokens.of_embedding = ids;
    else if (is_suffix_of(module, info.head))
      tokens.of_head = ids;
    else
      throw NotSupported("lora.attach", "trainable_token_indices of \"" + module + "\"; the input embedding (" + info.embedding + ") and the head (" +
                                            info.head + ") have some");
  if (info.head_is_tied && tokens.of_head == tokens.of_embedding) tokens.of_head.clear();
  tokens.head_follows = info.head_is_tied && tokens.of_head.empty();
  return tokens;
}
template <Scalar T, class S>
bool attach_adapter(const LoraConfig& config, LoraTokens<T>& tokens, S& site, const AttachContext& context) {
  if constexpr (std::same_as<S, Embedding<T>>)
    if (!tokens.of_embedding.empty() && context.path == tokens.embedding) {
      tokens.rows = make_token_rows("lora.attach", site.weight, tokens.of_embedding);
      site.adapters.attach(context.id, TokenEmbedding<T>{tokens.rows, "token_adapter.trainable_tokens_delta"});
      return false;
    }
  if constexpr (std::same_as<S, Linear<T>>)
    if (context.path == tokens.head && (!tokens.of_head.empty() || (tokens.rows.rows && tokens.head_follows))) {
      if (targets(config, context.path, context.is_head)) throw NotSupported("lora.attach", "LoRA on " + context.path + " of which single tokens train, too");
      if (tokens.head_follows)
        site.adapters.attach(context.id, TokenHead<T>{tokens.rows, ""});
      else
        site.adapters.attach(context.id, TokenHead<T>{make_token_rows("lora.attach", site.weight, tokens.of_head), "token_adapter.trainable_tokens_delta"});
      return false;
    }
  if constexpr (requires { attach_adapter(config, site, context); })
    return attach_adapter(config, site, context);
  else
    return false;
}

}  // namespace peft
