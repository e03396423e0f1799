// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/lora/config.hpp"
#include "peft/autograd/functions/low_rank.hpp"
#include "peft/nn/embedding.hpp"
#include "peft/nn/linear.hpp"
#include "peft/nn/norm.hpp"
#include "peft/ops/gemm.hpp"

namespace peft {

/// LoRA (Hu et al. 2021, arXiv:2106.09685):  y = W x + s · B A dropout(x)
///
///     x ─────────────── W, frozen ──────────────┐
///     └─ dropout ── A (r, in) ── B (out, r) ── ·s ── + ── y
///
/// s = lora_alpha / r, or lora_alpha / √r for rsLoRA (arXiv:2312.03732). B starts at zero: a fresh adapter changes nothing.
template <Scalar T>
struct Lora {
  Parameter<T> A;  // (r, in_features)
  Parameter<T> B;  // (out_features, r)
  T scaling = 1;
  double dropout = 0;
  std::uint64_t site = 0;  // names this site to dropout

  /// Adds the update into y, which has no other holder. x (N, in), y (N, out). Keeps x (a handle) and x Aᵀ (N, r).
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const {
    const Pass<T>* pass = Pass<T>::current();
    return low_rank_update(std::move(y), x, A, B, scaling, pass ? pass->dropping(dropout, site) : Dropping{});
  }
  /// W ← W + s · B A
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    ops::gemm<T>(scaling, B.value().view(), false, A.value().view(), false, T(1), fused.weight.value().view());
    fused.weight.touch();
  }
  static void describe(auto& self, auto&& visit) {
    visit("lora_A.weight", self.A);
    visit("lora_B.weight", self.B);
  }
};
static_assert(Adapter<Lora<float>, Linear<float>> && Mergeable<Lora<float>, Linear<float>>);

/// A site with a bias of its own that trains, and the weight shared: `bias` = "all".
template <class S>
struct OwnBias {
  S own;  // the weight's handle, and a copy of the bias
  const S& stand_in(const S&) const { return own; }
  static void describe(auto& self, auto&& visit) { visit("bias", self.own.bias); }
};

/// LoRA together with the site's own bias: `bias` = "all" or "lora_only". PEFT keeps the bias under the wrapped layer's name.
template <Scalar T>
struct LoraWithBias {
  Lora<T> lora;
  Linear<T> own;
  const Linear<T>& stand_in(const Linear<T>&) const { return own; }
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const { return lora(base, x, std::move(y)); }
  void merge_into(Linear<T>& fused, const Linear<T>& base) const { lora.merge_into(fused, base); }
  static void describe(auto& self, auto&& visit) {
    Lora<T>::describe(self.lora, visit);
    visit("base_layer.bias", self.own.bias);
  }
};

/// A fresh LoRA for one Linear.
template <Scalar T>
Lora<T> make_lora(const LoraConfig& config, const Linear<T>& site, std::string_view path, Random random) {
  const LoraScale scale = lora_scale(config, path);
  const std::int64_t in = site.in_features(), out = site.out_features();
  Tensor<T> A({scale.r, in}), B = Tensor<T>::zeros({out, scale.r});
  const InitLoraWeights::Kind init = config.init_lora_weights.kind();
  const double bound = 1 / std::sqrt(double(in));
  for (T& a : A.span()) a = T(init == InitLoraWeights::gaussian ? random.normal() / double(scale.r) : random.uniform(-bound, bound));
  if (init == InitLoraWeights::random)
    for (T& b : B.span()) b = T(random.uniform(-1, 1) / std::sqrt(double(scale.r)));
  return {Parameter<T>(std::move(A), true), Parameter<T>(std::move(B), true), T(scale.scaling), config.lora_dropout, name_hash(path)};
}

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
  const auto with_own_bias = [&] { return Linear<T>(site.weight, Parameter<T>(site.bias.dense(), true), site.path); };
  if (chosen) {
    Lora<T> lora = make_lora(config, site, context.path, context.random.fork(name_hash(context.path)));
    if (own_bias)
      site.adapters.attach(context.id, LoraWithBias<T>{std::move(lora), with_own_bias()});
    else
      site.adapters.attach(context.id, std::move(lora));
  } else if (own_bias) {
    site.adapters.attach(context.id, OwnBias<Linear<T>>{with_own_bias()});
  }
  return chosen;
}
template <Scalar T>
bool attach_adapter(const LoraConfig& config, Norm<T>& site, const AttachContext& context) {
  if (config.bias == "all" && site.bias) {
    Norm<T> own = site;
    own.bias = Parameter<T>(site.bias.dense(), true);
    site.adapters.attach(context.id, OwnBias<Norm<T>>{std::move(own)});
  }
  return false;
}
template <Scalar T>
bool attach_adapter(const LoraConfig& config, Embedding<T>&, const AttachContext& context) {
  if (!config.target_modules.all_linear() && targets(config, context.path, false))
    throw NotSupported("lora.attach",
                       "target_modules (" + config.target_modules.text() + ") names " + context.path + ", an Embedding; LoRA on an embedding is not supported");
  return false;
}
/// What LoRA can sit on: for error messages.
template <Scalar T>
bool attachable(const LoraConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
