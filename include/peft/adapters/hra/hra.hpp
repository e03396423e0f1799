// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/hra/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// HRA (Yuan et al. 2024, arXiv:2405.17484): a chain of r Householder reflections of the input.
///
///     x ── I − 2 u_r u_rᵀ ── … ── I − 2 u_1 u_1ᵀ ── W, frozen ── y         u_i = U[:, i] / ‖U[:, i]‖
///
/// A fresh adapter has each reflection twice, which changes nothing.
template <Scalar T>
struct Hra {
  Parameter<T> U;  // (in_features, r)
  /// (r, in_features), rows of length 1.
  Variable<T> directions() const {
    const Variable<T> rows_of_u = transpose(U.variable());
    return scale_rows(rows_of_u, reciprocal(row_norms(rows_of_u)));
  }
  static Variable<T> reflected(const Variable<T>& x, const Variable<T>& u) { return add(scale(matmul(matmul(x, u, false, true), u), T(-2)), x); }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, const Next<Linear<T>>& next) const {
    const Variable<T> u = directions();
    Variable<T> turned = x;
    for (std::int64_t i = u.rows(); i-- > 0;) turned = reflected(turned, rows(u, i, i + 1));
    return next(turned);
  }
  /// W ← W H_1 … H_r
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    change_weight(fused, [&](Variable<T> W) {
      const Variable<T> u = directions();
      for (std::int64_t i = 0; i < u.rows(); i++) W = reflected(W, rows(u, i, i + 1));
      return W;
    });
  }
  static void describe(auto& self, auto&& visit) { visit("hra_u", self.U); }
};

template <Scalar T>
bool attach_adapter(const HRAConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    Parameter<T> U = kaiming<T>({site.in_features(), config.r}, random);
    if (config.init_weights && config.r % 2 == 0)
      for (std::int64_t i = 0; i < U.shape()[0]; i++)
        for (std::int64_t j = 0; j < config.r; j += 2) U.value()(i, j + 1) = U.value()(i, j);
    return Hra<T>{std::move(U)};
  });
}
template <Scalar T>
bool attachable(const HRAConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
