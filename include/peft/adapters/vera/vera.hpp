// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <random>

#include "peft/adapters/on_linear.hpp"
#include "peft/adapters/vera/config.hpp"

namespace peft {

/// VeRA (Kopiczko et al. 2024, arXiv:2310.11454): two random projections, frozen and shared by all sites; what trains are two vectors.
///
///     x ── W, frozen ─────────────────────────────────────────────┐
///     └─ dropout ── A[:, :in] ── ∘ λ_d (r) ── B[:out] ── ∘ λ_b (out) ── + ── y
template <Scalar T>
struct VeraProjections {
  Parameter<T> A, B;  // (r, largest in_features), (largest out_features, r); frozen
  bool saved = true;
  static void describe(auto& self, auto&& visit) {
    visit("vera_A", self.A);
    visit("vera_B", self.B);
  }
  void to_file(AdapterTensors& tensors) const {
    if (!saved) std::erase_if(tensors, [](const AdapterTensor& t) { return t.name == "base_model.vera_A" || t.name == "base_model.vera_B"; });
  }
  void from_file(AdapterTensors& tensors) {
    if (saved) return;
    for (const auto& [name, p] : {std::pair{"base_model.vera_A", A}, std::pair{"base_model.vera_B", B}}) {
      if (find_tensor(tensors, name)) continue;
      AdapterTensor t{name, Tensor<float>(p.shape())};
      for (std::int64_t i = 0; i < p.size(); i++) t.values[i] = float(p.value()[i]);
      tensors.push_back(std::move(t));
    }
  }
};

template <Scalar T>
struct Vera {
  Parameter<T> lambda_d, lambda_b;  // (r), (out_features)
  Parameter<T> A, B;                // the shared ones
  SiteDropout<T> drop;
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const {
    const Variable<T> a = columns(A.variable(), 0, base.in_features()), b = rows(B.variable(), 0, base.out_features());
    const Variable<T> h = scale_columns(matmul(drop(x), a, false, true), lambda_d.variable());
    return add(std::move(y), scale_columns(matmul(h, b, false, true), lambda_b.variable()));
  }
  /// W ← W + diag(λ_b) B diag(λ_d) A
  void merge_into(Linear<T>& fused, const Linear<T>& base) const {
    const Variable<T> a = columns(A.variable(), 0, base.in_features()), b = rows(B.variable(), 0, base.out_features());
    const NoGrad guard;
    add_to_weight(fused, scale_rows(matmul(scale_columns(b, lambda_d.variable()), a), lambda_b.variable()));
  }
  static void describe(auto& self, auto&& visit) {
    visit("vera_lambda_d", self.lambda_d);
    visit("vera_lambda_b", self.lambda_b);
  }
};

/// A, then B, as torch's CPU generator draws them: uniform in ±√(6 / fan_in), 24 bits of a Mersenne twister a number. A file without them can so
/// be read.
template <Scalar T>
VeraProjections<T> shared_part(const VeraConfig& config, const ModelInfo& info, Random) {
  std::int64_t in = 0, out = 0;
  for (const auto& site : info.linears)
    if (targets(config, site.path, site.is_head)) in = std::max(in, site.in_features), out = std::max(out, site.out_features);
  std::mt19937 twister(static_cast<std::uint32_t>(config.projection_prng_key));
  const auto draw = [&](const Shape& shape) {
    const float bound = float(std::sqrt(6.0 / double(std::max<std::int64_t>(shape.columns(), 1))));
    Tensor<T> values(shape);
    for (T& value : values.span()) value = T(std::fma(float(twister() & 0xFFFFFF) * 0x1p-24f, 2 * bound, -bound));
    return Parameter<T>(std::move(values));
  };
  Parameter<T> A = draw({config.r, in});
  return {std::move(A), draw({out, config.r}), config.save_projection};
}
template <Scalar T>
bool attach_adapter(const VeraConfig& config, VeraProjections<T>& shared, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&](Random random) {
    Parameter<T> lambda_b = config.init_weights ? constant<T>({site.out_features()}, 0) : drawn_normal<T>({site.out_features()}, 0, 1, random);
    return Vera<T>{constant<T>({config.r}, config.d_initial), std::move(lambda_b), shared.A, shared.B, {config.vera_dropout, name_hash(context.path)}};
  });
}
template <Scalar T>
bool attachable(const VeraConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
