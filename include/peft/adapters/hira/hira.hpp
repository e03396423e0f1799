// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/hira/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// HiRA (Huang et al. 2025): a low-rank matrix that scales the entries of the weight, so that the change has a high rank.
///
///     Δ = W ∘ (B A)          y = W x + Δ dropout(x)
template <Scalar T>
struct Hira {
  Parameter<T> A, B;  // (r, in), (out, r)
  SiteDropout<T> drop;
  Variable<T> delta(const Linear<T>& base) const { return multiply(matmul(B.variable(), A.variable()), Variable<T>(base.weight.dense())); }
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const { return add_product(std::move(y), drop(x), delta(base)); }
  /// W ← W + W₀ ∘ B A, with the base's W₀
  void merge_into(Linear<T>& fused, const Linear<T>& base) const {
    const NoGrad guard;
    add_to_weight(fused, delta(base));
  }
  static void describe(auto& self, auto&& visit) {
    visit("hira_A", self.A);
    visit("hira_B", self.B);
  }
};

template <Scalar T>
bool attach_adapter(const HiraConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features(), r = config.r;
    Parameter<T> A = !config.init_weights.on            ? drawn_normal<T>({r, in}, 0, 1, random)
                     : config.init_weights.name.empty() ? kaiming<T>({r, in}, random)
                                                        : drawn_normal<T>({r, in}, 0, 1 / double(r), random);
    Parameter<T> B = config.init_weights.on ? constant<T>({out, r}, 0) : drawn_normal<T>({out, r}, 0, 1, random);
    return Hira<T>{std::move(A), std::move(B), {config.hira_dropout, name_hash(context.path)}};
  });
}
template <Scalar T>
bool attachable(const HiraConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
