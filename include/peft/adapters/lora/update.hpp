// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/own_tensors.hpp"
#include "peft/autograd/functions/low_rank.hpp"
#include "peft/autograd/functions/matrix.hpp"
#include "peft/nn/embedding.hpp"
#include "peft/nn/linear.hpp"
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

/// LoRA on an embedding:  y row n += s · scale · B A[:, ids[n]]. A begins at zero. As in torch, the padding id leaves no gradient.
template <Scalar T>
struct LoraEmbedding {
  Parameter<T> A;  // (r, num_embeddings)
  Parameter<T> B;  // (embedding_dim, r)
  T scaling = 1;
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
  }
};

}  // namespace peft
