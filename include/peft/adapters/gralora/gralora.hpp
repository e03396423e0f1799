// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/gralora/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// GraLoRA (Jung et al. 2025, arXiv:2505.20355): k × k blocks, each with a LoRA of rank r / k of its own.
///
///     x (k parts of in / k) ── A each (in / k, r) ── r / k numbers of each part to each output part ── B each (r, out / k) ── · s ── + W x ── y
///
/// s = α / (r + h). With hybrid_r = h > 0 an ordinary LoRA of rank h stands beside it, under the same s.
template <Scalar T>
struct Gralora {
  Parameter<T> A, B;                                          // (k, in / k, r), (k, r, out / k)
  std::shared_ptr<const std::vector<std::int64_t>> exchange;  // of the k · r numbers between
  T scaling = 1;
  SiteDropout<T> drop;
  Parameter<T> A_whole, B_whole;  // (h, in), (out, h), or absent
  Variable<T> change(const Variable<T>& x) const {
    Variable<T> y = scale(multiply_blocks(permute_columns(multiply_blocks(x, A.variable()), exchange), B.variable()), scaling);
    return A_whole ? add_product(std::move(y), matmul(x, A_whole.variable(), false, true), B_whole.variable(), scaling) : y;
  }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const { return add(std::move(y), change(drop(x))); }
  /// Δᵀ is what becomes of the identity.
  void merge_into(Linear<T>& fused, const Linear<T>& base) const {
    const NoGrad guard;
    Tensor<T> I = Tensor<T>::zeros({base.in_features(), base.in_features()});
    for (std::int64_t i = 0; i < I.rows(); i++) I(i, i) = 1;
    add_to_weight(fused, transpose(change(Variable<T>(std::move(I)))));
  }
  static void describe(auto& self, auto&& visit) {
    visit("gralora_A", self.A);
    visit("gralora_B", self.B);
    visit("gralora_A_general.weight", self.A_whole);
    visit("gralora_B_general.weight", self.B_whole);
  }
};

template <Scalar T>
bool attach_adapter(const GraloraConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features(), k = config.gralora_k, r = config.r;
    must_divide("gralora.attach", "gralora_k", k, context.path, in);
    must_divide("gralora.attach", "gralora_k", k, context.path, out);
    auto exchange = std::make_shared<std::vector<std::int64_t>>();
    for (std::int64_t m = 0; m < k; m++)
      for (std::int64_t n = 0; n < k; n++)
        for (std::int64_t j = 0; j < r / k; j++) exchange->push_back(n * r + m * (r / k) + j);
    const double a = 1 / std::sqrt(double(in / k)), b = config.init_weights ? 0 : 1 / std::sqrt(double(r));
    Parameter<T> A = drawn_uniform<T>({k, in / k, r}, a, random);
    Gralora<T> gralora{std::move(A),
                       drawn_uniform<T>({k, r, out / k}, b, random),
                       std::move(exchange),
                       T(config.alpha / double(r + config.hybrid_r)),
                       {config.gralora_dropout, name_hash(context.path)},
                       {},
                       {}};
    if (config.hybrid_r > 0) {
      gralora.A_whole = kaiming<T>({config.hybrid_r, in}, random);
      gralora.B_whole = kaiming_or_zero<T>({out, config.hybrid_r}, config.init_weights, random);
    }
    return gralora;
  });
}
template <Scalar T>
bool attachable(const GraloraConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
