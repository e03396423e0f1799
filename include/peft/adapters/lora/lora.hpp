// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/lora/config.hpp"
#include "peft/adapters/lora/direction.hpp"
#include "peft/adapters/own_tensors.hpp"
#include "peft/adapters/trainable_tokens/token_rows.hpp"
#include "peft/autograd/functions/low_rank.hpp"
#include "peft/nn/embedding.hpp"
#include "peft/nn/linear.hpp"
#include "peft/nn/norm.hpp"
#include "peft/ops/factorise.hpp"
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
  /// The same with W's product in it, where no other adapter is in between.
  Variable<T> with_map(const Linear<T>& base, const Variable<T>& x) const {
    const Pass<T>* pass = Pass<T>::current();
    return linear_low_rank(x, base.weight, base.bias, A, B, scaling, pass ? pass->dropping(dropout, site) : Dropping{});
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

/// LoRA whose B has a bias:  y += s · (B A x + b_B)
template <Scalar T>
struct LoraWithBiasOfB {
  Lora<T> lora;
  Parameter<T> bias;  // (out_features)
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const {
    return add_row(lora(base, x, std::move(y)), lora.scaling, bias.variable());
  }
  /// A base without a bias gets one.
  void merge_into(Linear<T>& fused, const Linear<T>& base) const {
    lora.merge_into(fused, base);
    if (!fused.bias) fused.bias = Parameter<T>(Tensor<T>::zeros(bias.shape()));
    ops::axpy<T>(fused.bias.value().view(), lora.scaling, bias.value().view());
    fused.bias.touch();
  }
  static void describe(auto& self, auto&& visit) {
    Lora<T>::describe(self.lora, visit);
    visit("lora_B.bias", self.bias);
  }
};

/// m / n, n a constant.
template <Scalar T>
Variable<T> divided(const Variable<T>& m, const Tensor<T>& n) {
  Tensor<T> inverse(n.shape());
  for (std::int64_t i = 0; i < n.size(); i++) inverse[i] = 1 / n[i];
  return multiply(m, Variable<T>(std::move(inverse)));
}

/// DoRA (Liu et al. 2024, arXiv:2402.09353): the direction W + s B A of each row, with a length m of its own that trains.
///
///     y = b + (m / n) ∘ (W x + s B A x),   n = ‖W + s B A‖ by rows, taken as a constant
///
/// Under dropout the base sees the dropped x, too, which costs one more product.
template <Scalar T>
struct Dora {
  Lora<T> lora;
  Parameter<T> magnitude;  // (out_features)
  DirectionNorms<T> direction;

  /// n for the base's weight.
  Tensor<T> norms(const Linear<T>& base) const { return direction(base.weight, false, lora.A, lora.B, double(lora.scaling)); }
  Variable<T> gain(const Linear<T>& base) const { return divided(magnitude.variable(), norms(base)); }  // m / n
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const {
    const Variable<T> g = gain(base);
    const Pass<T>* pass = Pass<T>::current();
    if (const Dropping drop = pass ? pass->dropping(lora.dropout, lora.site) : Dropping{}) {
      const Variable<T> dropped = dropout(x, drop);
      const Variable<T> u = linear(dropped, base.weight);
      const Variable<T> v = low_rank_update(u, dropped, lora.A, lora.B, lora.scaling);
      return add(add(std::move(y), scale(u, T(-1))), scale_columns(v, g));
    }
    if (base.bias) y = add_constant_row(std::move(y), T(-1), base.bias.value());
    y = scale_columns(low_rank_update(std::move(y), x, lora.A, lora.B, lora.scaling), g);
    return base.bias ? add_constant_row(std::move(y), T(1), base.bias.value()) : y;
  }
  /// The same bits with W's product in it, where no other adapter is in between.
  Variable<T> with_map(const Linear<T>& base, const Variable<T>& x) const {
    const Pass<T>* pass = Pass<T>::current();
    if (base.bias || (pass && pass->dropping(lora.dropout, lora.site))) return (*this)(base, x, base.forward(x));
    return scale_columns(linear_low_rank(x, base.weight, Parameter<T>(), lora.A, lora.B, lora.scaling), gain(base));
  }
  /// W ← (m / n) ∘ (W + s B A)
  void merge_into(Linear<T>& fused, const Linear<T>& base) const {
    lora.merge_into(fused, base);
    const Tensor<T> g = gain(base).value();
    ops::scale_rows<T>(fused.weight.value().view(), fused.weight.value().view(), g.data());
    if (fused.bias && base.bias)  // what inner adapters added to the bias is scaled, the base's own is not
      for (std::int64_t o = 0; o < g.size(); o++) {
        const T b = base.bias.value()[o];
        fused.bias.value()[o] = b + g[o] * (fused.bias.value()[o] - b);
      }
  }
  static void describe(auto& self, auto&& visit) {
    Lora<T>::describe(self.lora, visit);
    visit("lora_magnitude_vector", self.magnitude);
  }
};

/// LoRA on what is left of the base when A₀ and B₀ have been taken off it (PiSSA, OLoRA):  y = W x + s B A x − s B₀ A₀ x. The base stays as it is;
/// A₀ and B₀ follow from W, so that a file has A and B alone.
template <Scalar T>
struct LoraOnResidual {
  Lora<T> lora;
  Parameter<T> A0, B0;  // frozen
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const {
    y = low_rank_update(std::move(y), x, A0, B0, -lora.scaling);  // never dropped: it is part of the base
    return lora(base, x, std::move(y));
  }
  void merge_into(Linear<T>& fused, const Linear<T>& base) const {
    ops::gemm<T>(-lora.scaling, B0.value().view(), false, A0.value().view(), false, T(1), fused.weight.value().view());
    lora.merge_into(fused, base);
  }
  static void describe(auto& self, auto&& visit) { Lora<T>::describe(self.lora, visit); }
};

/// LoRA on a quantised copy Q of the base (LoftQ):  y = Q x + b + s B A x. The base stays as it is; Q follows from W, so that a file has A and B alone.
template <Scalar T>
struct LoraOnQuantized {
  Lora<T> lora;
  Linear<T> own;  // Q, frozen, and the base's bias
  const Linear<T>& stand_in(const Linear<T>&) const { return own; }
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const { return lora(base, x, std::move(y)); }
  Variable<T> with_map(const Linear<T>& base, const Variable<T>& x) const { return lora.with_map(base, x); }
  void merge_into(Linear<T>& fused, const Linear<T>& base) const { lora.merge_into(fused, base); }
  static void describe(auto& self, auto&& visit) { Lora<T>::describe(self.lora, visit); }
};

/// LoRA on an embedding:  y row n += s · scale · B A[:, ids[n]]. A begins at zero. As in torch, the padding id leaves no gradient. A file has the
/// base's table, too.
template <Scalar T>
struct LoraEmbedding {
  Parameter<T> A;  // (r, num_embeddings)
  Parameter<T> B;  // (embedding_dim, r)
  T scaling = 1;
  Parameter<T> table;  // the base's
  Variable<T> operator()(const Embedding<T>& base, const typename Embedding<T>::Input& ids, Variable<T> y) const {
    return add_product(std::move(y), embed_columns(ids, A.variable(), base.padding_idx), B.variable(), scaling * base.scale);
  }
  /// W ← W + s (B A)ᵀ
  void merge_into(Embedding<T>& fused, const Embedding<T>&) const {
    ops::gemm<T>(scaling, A.value().view(), true, B.value().view(), true, T(1), fused.weight.value().view());
    fused.weight.touch();
  }
  static void describe(auto& self, auto&& visit) {
    visit("lora_embedding_A", self.A);
    visit("lora_embedding_B", self.B);
    visit("base_layer.weight", self.table);
  }
};

/// DoRA on an embedding:  y row n = (m / n) ∘ (scale · W[ids[n]] + s · scale · B A[:, ids[n]]), n = ‖Wᵀ + s B A‖ by the embedding's features.
template <Scalar T>
struct DoraEmbedding {
  LoraEmbedding<T> lora;
  Parameter<T> magnitude;  // (embedding_dim)
  DirectionNorms<T> direction;
  Tensor<T> norms(const Parameter<T>& table) const { return direction(table, true, lora.A, lora.B, double(lora.scaling)); }
  Variable<T> operator()(const Embedding<T>& base, const typename Embedding<T>::Input& ids, Variable<T> y) const {
    return scale_columns(lora(base, ids, std::move(y)), divided(magnitude.variable(), norms(base.weight)));
  }
  /// W ← (W + s (B A)ᵀ) ∘ (m / n)
  void merge_into(Embedding<T>& fused, const Embedding<T>& base) const {
    lora.merge_into(fused, base);
    const NoGrad guard;
    ops::scale_columns<T>(fused.weight.value().view(), fused.weight.value().view(), divided(magnitude.variable(), norms(base.weight)).value().data());
  }
  static void describe(auto& self, auto&& visit) {
    LoraEmbedding<T>::describe(self.lora, visit);
    visit("lora_magnitude_vector", self.magnitude);
  }
};
static_assert(Adapter<DoraEmbedding<float>, Embedding<float>> && Mergeable<DoraEmbedding<float>, Embedding<float>>);

/// A fresh LoRA for one Linear.
template <Scalar T>
Lora<T> make_lora(const LoraConfig& config, const Linear<T>& site, std::string_view path, Random random) {
  const LoraScale scale = lora_scale(config, path);
  const std::int64_t in = site.in_features(), out = site.out_features();
  Tensor<T> A({scale.r, in}), B = Tensor<T>::zeros({out, scale.r});
  const InitLoraWeights::Kind init = config.init_lora_weights.kind();
  const double bound = 1 / std::sqrt(double(in));
  if (!LeaveUnfilled::on())
    for (T& a : A.span()) a = T(init == InitLoraWeights::gaussian ? random.normal() / double(scale.r) : random.uniform(-bound, bound));
  if (init == InitLoraWeights::random)
    for (T& b : B.span()) b = T(random.uniform(-1, 1) / std::sqrt(double(scale.r)));
  return {Parameter<T>(std::move(A), true), Parameter<T>(std::move(B), true), T(scale.scaling), config.lora_dropout, name_hash(path)};
}
/// The magnitude begins as the lengths, where nobody brings another.
template <Scalar T>
Dora<T> make_dora(Lora<T> lora, const Linear<T>& site) {
  Dora<T> dora{std::move(lora), {}, {}};
  dora.magnitude = Parameter<T>(LeaveUnfilled::on() ? Tensor<T>({site.out_features()}) : dora.norms(site).clone(), true);
  return dora;
}

namespace detail {
template <Scalar T>
void check_rank_at(const Lora<T>& lora, const Linear<T>& site) {
  const std::int64_t r = lora.A.shape()[0], most = std::min(site.out_features(), site.in_features());
  if (r > most) throw ConfigError("lora.attach", "r is " + std::to_string(r) + "; " + site.path + " has a rank of at most " + std::to_string(most));
}
}  // namespace detail

/// PiSSA and OLoRA begin with the leading part of the base: s B₀ A₀ by its r largest singular values, or by the first r columns of its QR.
template <Scalar T>
LoraOnResidual<T> on_residual(Lora<T> lora, const Linear<T>& site, InitLoraWeights::Kind init) {
  detail::check_rank_at(lora, site);
  const std::int64_t r = lora.A.shape()[0], out = site.out_features(), in = site.in_features();
  Tensor<T> A({r, in}), B({out, r});
  const Tensor<T> W = site.weight.dense();
  if (init == InitLoraWeights::pissa)
    ops::split_by_svd<T>(B.view(), A.view(), W.view(), double(lora.scaling));
  else
    ops::split_by_qr<T>(B.view(), A.view(), W.view());
  LoraOnResidual<T> all{std::move(lora), Parameter<T>(A.clone()), Parameter<T>(B.clone())};
  all.lora.A.assign(std::move(A)), all.lora.B.assign(std::move(B));
  return all;
}

/// LoftQ (Li et al. 2023, arXiv:2310.08659), algorithm 1: from B A = 0, by turns Q = quantise(W − s B A) and s B A = the r largest singular values of W − Q.
template <Scalar T>
LoraOnQuantized<T> on_quantized(Lora<T> lora, const Linear<T>& site, const InitLoraWeights& init) {
  detail::check_rank_at(lora, site);
  const std::string type(name(init.quantize()));
  if (is_quantized(site.weight.dtype()))
    throw ConfigError("lora.attach",
                      site.path + " is " + std::string(name(site.weight.dtype())) + " already; LoftQ begins with weights that are not quantised");
  const std::int64_t r = lora.A.shape()[0], out = site.out_features(), in = site.in_features();
  if (!ops::quantizable(init.quantize(), in))
    throw ConfigError("lora.attach", site.path + " has " + std::to_string(in) + " inputs, which are not whole blocks of " +
                                         std::to_string(info(init.quantize()).block) + " (" + type + "); leave it out of target_modules");
  Tensor<T> A({r, in}), B({out, r});
  const Tensor<T> W = site.weight.dense();
  ops::OwnedWeight Q = ops::quantized(site.weight.view(), init.quantize());
  for (std::int64_t i = 0; i < init.iterations(); i++) {
    if (i > 0) {
      const Tensor<T> rest = W.clone();
      ops::gemm<T>(-lora.scaling, B.view(), false, A.view(), false, T(1), rest.view());
      Q = ops::quantized(ops::WeightView(rest.view()), init.quantize());
    }
    Tensor<T> lost({out, in});
    ops::widen<T>(lost.view(), Q.view);
    ops::scale<T>(lost.view(), T(-1), lost.view()), ops::add_into<T>(lost.view(), W.view());
    ops::split_by_svd<T>(B.view(), A.view(), lost.view(), double(lora.scaling));
  }
  lora.A.assign(std::move(A)), lora.B.assign(std::move(B));
  return {std::move(lora), Linear<T>(Parameter<T>(Q.view, site.weight.shape(), Q.keep), site.bias, site.path)};
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
  const LoraScale scale = lora_scale(config, context.path);
  Random random = context.at_site();
  Tensor<T> A = Tensor<T>::zeros({scale.r, site.num_embeddings()}), B({site.embedding_dim(), scale.r});
  if (!LeaveUnfilled::on())
    for (T& b : B.span()) b = T(random.normal());
  if (config.init_lora_weights.kind() == InitLoraWeights::random)
    for (T& a : A.span()) a = T(random.normal());
  LoraEmbedding<T> lora{Parameter<T>(std::move(A), true), Parameter<T>(std::move(B), true), T(scale.scaling), site.weight};
  if (config.use_dora) {
    DoraEmbedding<T> dora{std::move(lora), {}, {}};
    dora.magnitude = Parameter<T>(LeaveUnfilled::on() ? Tensor<T>({site.embedding_dim()}) : dora.norms(site.weight).clone(), true);
    site.adapters.attach(context.id, std::move(dora));
  } else {
    site.adapters.attach(context.id, std::move(lora));
  }
  return true;
}
/// What LoRA can sit on: for error messages.
template <Scalar T>
bool attachable(const LoraConfig&, const Linear<T>&) {
  return true;
}

/// Rows of embeddings that train along with a LoRA (trainable_token_indices).
template <Scalar T>
struct LoraTokens {
  std::string embedding, head;  // paths; a head that is not tied is ""
  TokenRows<T> rows = {};
  static void describe(auto&, auto&&) {}  // visited where they sit
};
template <Scalar T>
LoraTokens<T> shared_part(const LoraConfig& config, const ModelInfo& info, Random) {
  for (const auto& [module, ids] : config.trainable_token_indices)
    if (!module.empty() && !is_suffix_of(module, info.embedding))
      throw NotSupported("lora.attach",
                         "trainable_token_indices of \"" + module + "\"; only those of the input embedding (" + info.embedding + ") are supported");
  return {info.embedding, info.head_is_tied ? info.head : ""};
}
template <Scalar T, class S>
bool attach_adapter(const LoraConfig& config, LoraTokens<T>& tokens, S& site, const AttachContext& context) {
  if constexpr (std::same_as<S, Embedding<T>>)
    if (!config.trainable_token_indices.empty() && context.path == tokens.embedding) {
      tokens.rows = make_token_rows("lora.attach", site, config.trainable_token_indices[0].second);
      site.adapters.attach(context.id, TokenEmbedding<T>{tokens.rows, "token_adapter.trainable_tokens_delta"});
      return false;
    }
  if constexpr (std::same_as<S, Linear<T>>)
    if (tokens.rows.rows && !tokens.head.empty() && context.path == tokens.head) {
      if (targets(config, context.path, context.is_head))
        throw NotSupported("lora.attach", "LoRA on " + context.path + " whose tokens train along with the embedding's");
      site.adapters.attach(context.id, TokenHead<T>{tokens.rows, ""});
      return false;
    }
  if constexpr (requires { attach_adapter(config, site, context); })
    return attach_adapter(config, site, context);
  else
    return false;
}

}  // namespace peft
