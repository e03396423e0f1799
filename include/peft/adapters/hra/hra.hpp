// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/hra/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// HRA (Yuan et al. 2024, arXiv:2405.17484): a chain of r Householder reflections of the input.
///
///     x ── I − 2 u_r u_rᵀ ── … ── I − 2 u_1 u_1ᵀ ── W, frozen ── y         u_i = U[:, i] / ‖U[:, i]‖
///
/// A fresh adapter has each reflection twice, which changes nothing. With apply_GS the u_i are made orthogonal by Gram-Schmidt, so that the order of the
/// reflections is of no account and all are one product, I − 2 Σ u_i u_iᵀ; directions that are twice the same would leave nothing of the second, so
/// a fresh adapter has different ones then, and turns the input from the start (PEFT's begins with what rounding leaves).
template <Scalar T>
struct Hra {
  Parameter<T> U;  // (in_features, r)
  bool orthogonal = false;
  Derived<T> memo = {};
  /// (r, in_features), rows of length 1.
  Variable<T> directions() const {
    const auto of_length_1 = [](const Variable<T>& rows_of_u) { return scale_rows(rows_of_u, reciprocal(row_norms(rows_of_u))); };
    if (!orthogonal) return of_length_1(transpose(U.variable()));
    return memo({&U}, [&] {
      const Variable<T> u = transpose(U.variable());
      std::vector<Variable<T>, PoolAllocator<Variable<T>>> w;
      for (std::int64_t i = 0; i < u.rows(); i++) {
        Variable<T> left = rows(u, i, i + 1);
        for (const Variable<T>& before : w) left = add(scale(matmul(matmul(left, before, false, true), before), T(-1)), left);
        w.push_back(of_length_1(left));
      }
      return concat_rows<T>(w);
    });
  }
  /// x H for each direction of u alone, or x (I − 2 uᵀ u) for all where they are orthogonal.
  static Variable<T> reflected(const Variable<T>& x, const Variable<T>& u) { return add(scale(matmul(matmul(x, u, false, true), u), T(-2)), x); }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, const Next<Linear<T>>& next) const {
    const Variable<T> u = directions();
    if (orthogonal) return next(reflected(x, u));
    Variable<T> turned = x;
    for (std::int64_t i = u.rows(); i-- > 0;) turned = reflected(turned, rows(u, i, i + 1));
    return next(turned);
  }
  /// W ← W H_1 … H_r
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    change_weight(fused, [&](Variable<T> W) {
      const Variable<T> u = directions();
      if (orthogonal) return reflected(W, u);
      for (std::int64_t i = 0; i < u.rows(); i++) W = reflected(W, rows(u, i, i + 1));
      return W;
    });
  }
  static void describe(auto& self, auto&& visit) { visit("hra_u", self.U); }
};

template <Scalar T>
bool attach_adapter(const HRAConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    if (config.apply_GS && config.r > site.in_features())
      throw ConfigError("hra.attach", "r is " + std::to_string(config.r) + " with apply_GS; " + context.path + " has no more than " +
                                          std::to_string(site.in_features()) + " directions that are orthogonal");
    Parameter<T> U = kaiming<T>({site.in_features(), config.r}, random);
    if (config.init_weights && config.r % 2 == 0 && !config.apply_GS)
      for (std::int64_t i = 0; i < U.shape()[0]; i++)
        for (std::int64_t j = 0; j < config.r; j += 2) U.value()(i, j + 1) = U.value()(i, j);
    return Hra<T>{std::move(U), config.apply_GS};
  });
}
template <Scalar T>
bool attachable(const HRAConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
