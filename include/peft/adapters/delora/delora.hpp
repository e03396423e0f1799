// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/delora/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// DeLoRA (Bini et al. 2025, arXiv:2503.18225): LoRA of unit vectors, so that λ bounds the size of the change.
///
///     x ── dropout ── ∘ ‖W‖ (in, by columns, of the base) ── A (r, in) ── ∘ λ / (r ‖A_i‖ ‖B_i‖) ── B (out, r) ── + W x ── y
template <Scalar T>
struct Delora {
  Parameter<T> A, B;    // (r, in), (out, r)
  Parameter<T> lambda;  // (1)
  Parameter<T> w_norm;  // (in); frozen
  SiteDropout<T> drop;
  /// (r)
  Variable<T> lengths() const {
    const T least = T(1e-4);
    const Variable<T> norms = multiply(row_norms(A.variable(), least), row_norms(transpose(B.variable()), least));
    const std::int64_t r = norms.value().size();
    return scale(scale_rows(reshape(reciprocal(norms), {1, r}), lambda.variable()), T(1) / T(r));
  }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const {
    const Variable<T> h = matmul(scale_columns(drop(x), w_norm.variable()), A.variable(), false, true);
    return add_product(std::move(y), scale_columns(h, lengths()), B.variable());
  }
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    const NoGrad guard;
    add_to_weight(fused, scale_columns(matmul(scale_columns(B.variable(), lengths()), A.variable()), w_norm.variable()));
  }
  static void describe(auto& self, auto&& visit) {
    visit("delora_A", self.A);
    visit("delora_B", self.B);
    visit("delora_lambda", self.lambda);
    visit("delora_w_norm", self.w_norm);
  }
};

template <Scalar T>
bool attach_adapter(const DeloraConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features();
    const std::int64_t r = detail::pattern_or("rank_pattern", config.rank_pattern, context.path, config.r);
    const double lambda = detail::pattern_or("lambda_pattern", config.lambda_pattern, context.path, config.delora_lambda);
    const Tensor<T> W = site.weight.dense();
    Tensor<T> norms = Tensor<T>::zeros({in});
    ops::add_column_dots<T>(norms.data(), W.view(), W.view());
    for (T& value : norms.span()) value = std::sqrt(value);
    Parameter<T> A = kaiming<T>({r, in}, random);
    Parameter<T> B = kaiming_or_zero<T>({out, r}, config.init_weights, random);
    return Delora<T>{std::move(A), std::move(B), constant<T>({1}, lambda), Parameter<T>(std::move(norms)), {config.module_dropout, name_hash(context.path)}};
  });
}
template <Scalar T>
bool attachable(const DeloraConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
