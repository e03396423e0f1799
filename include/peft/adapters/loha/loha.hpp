// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/loha/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// LoHa (Hyeon-Woo et al. 2022, arXiv:2108.06098; LyCORIS, arXiv:2309.14859): the elementwise product of two low-rank matrices has a rank up to r².
///
///     Δ = s · (w1_a w1_b) ∘ (w2_a w2_b)          y = W x + Δ x,  s = alpha / r
///
/// In training rank_dropout drops rows of Δ, with those left over made larger, and module_dropout all of it.
template <Scalar T>
struct LoHa {
  Parameter<T> w1_a, w1_b, w2_a, w2_b;  // (out, r), (r, in), (out, r), (r, in)
  T scaling = 1;
  Derived<T> memo = {};
  DeltaDropout<T> dropout = {};
  Variable<T> delta() const {
    return memo({&w1_a, &w1_b, &w2_a, &w2_b},
                [&] { return scale(multiply(matmul(w1_a.variable(), w1_b.variable()), matmul(w2_a.variable(), w2_b.variable())), scaling); });
  }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const {
    return dropout.add(std::move(y), x, [&] { return delta(); });
  }
  void merge_into(Linear<T>& fused, const Linear<T>&) const { add_to_weight(fused, delta()); }
  static void describe(auto& self, auto&& visit) {
    visit("hada_w1_a", self.w1_a);
    visit("hada_w1_b", self.w1_b);
    visit("hada_w2_a", self.w2_a);
    visit("hada_w2_b", self.w2_b);
  }
};

template <Scalar T>
bool attach_adapter(const LoHaConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t r = detail::pattern_or("rank_pattern", config.rank_pattern, context.path, config.r), in = site.in_features(), out = site.out_features();
    const double alpha = detail::pattern_or("alpha_pattern", config.alpha_pattern, context.path, config.alpha);
    LoHa<T> loha{kaiming<T>({out, r}, random), kaiming<T>({r, in}, random), kaiming<T>({out, r}, random),
                 kaiming_or_zero<T>({r, in}, config.init_weights, random), T(alpha / double(r))};
    loha.dropout = {config.rank_dropout, config.module_dropout, true, name_hash(context.path)};
    return loha;
  });
}
template <Scalar T>
bool attachable(const LoHaConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
