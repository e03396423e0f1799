// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/on_linear.hpp"
#include "peft/adapters/vblora/config.hpp"

namespace peft {

/// VB-LoRA (Li et al. 2024, arXiv:2405.15179): the pieces of A and B are mixes of k vectors of a bank that all sites share and train.
///
///     bank (n, v) ── top k by logits, softmax ── pieces of A (r, in) and B (out, r)          y = W x + B A dropout(x)
template <Scalar T>
struct VectorBank {
  Parameter<T> bank;  // (num_vectors, vector_length)
  static void describe(auto& self, auto&& visit) { visit("vblora_vector_bank", self.bank); }
};

template <Scalar T>
struct VBLoRA {
  Parameter<T> logits_A, logits_B;  // (r, in / v, n), (out / v, r, n)
  Parameter<T> bank;                // the shared one
  std::int64_t k = 0;
  std::shared_ptr<const ops::GatherMap> pieces_of_B;  // (out / v, r, v) → (out, r)
  SiteDropout<T> drop;
  Variable<T> A() const { return reshape(mix_top_rows(logits_A.variable(), bank.variable(), k), {logits_A.shape()[0], logits_A.shape()[1] * bank.shape()[1]}); }
  Variable<T> B() const {
    return gather(mix_top_rows(logits_B.variable(), bank.variable(), k), pieces_of_B, {logits_B.shape()[0] * bank.shape()[1], logits_B.shape()[1]});
  }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const {
    return add_product(std::move(y), matmul(drop(x), A(), false, true), B());
  }
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    const NoGrad guard;
    add_to_weight(fused, matmul(B(), A()));
  }
  static void describe(auto& self, auto&& visit) {
    visit("vblora_logits_A", self.logits_A);
    visit("vblora_logits_B", self.logits_B);
  }
};

template <Scalar T>
VectorBank<T> shared_part(const VBLoRAConfig& config, const ModelInfo&, Random random) {
  return {drawn_uniform<T>({config.num_vectors, config.vector_length}, config.init_vector_bank_bound, random)};
}
template <Scalar T>
bool attach_adapter(const VBLoRAConfig& config, VectorBank<T>& shared, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&](Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features(), v = config.vector_length, r = config.r;
    must_divide("vblora.attach", "vector_length", v, context.path, in);
    must_divide("vblora.attach", "vector_length", v, context.path, out);
    auto pieces = std::make_shared<ops::GatherMap>();
    for (std::int64_t o = 0; o < out; o++)
      for (std::int64_t j = 0; j < r; j++) pieces->from.push_back((o / v * r + j) * v + o % v);
    Parameter<T> A = drawn_normal<T>({r, in / v, config.num_vectors}, 0, config.init_logits_std, random);
    Parameter<T> B = drawn_normal<T>({out / v, r, config.num_vectors}, 0, config.init_logits_std, random);
    return VBLoRA<T>{std::move(A), std::move(B), shared.bank, config.topk, std::move(pieces), {config.vblora_dropout, name_hash(context.path)}};
  });
}
template <Scalar T>
bool attachable(const VBLoRAConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
