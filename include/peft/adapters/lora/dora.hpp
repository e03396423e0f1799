// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/lora/direction.hpp"
#include "peft/adapters/lora/update.hpp"

namespace peft {

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

/// The magnitude begins as the lengths, where nobody brings another.
template <Scalar T>
Dora<T> make_dora(Lora<T> lora, const Linear<T>& site) {
  Dora<T> dora{std::move(lora), {}, {}};
  dora.magnitude = Parameter<T>(LeaveUnfilled::on() ? Tensor<T>({site.out_features()}) : dora.norms(site).clone(), true);
  return dora;
}
template <Scalar T>
DoraEmbedding<T> make_dora(LoraEmbedding<T> lora, const Embedding<T>& site) {
  DoraEmbedding<T> dora{std::move(lora), {}, {}};
  dora.magnitude = Parameter<T>(LeaveUnfilled::on() ? Tensor<T>({site.embedding_dim()}) : dora.norms(site.weight).clone(), true);
  return dora;
}

}  // namespace peft
