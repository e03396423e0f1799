// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "peft/adapters/lora/config.hpp"
#include "peft/adapters/lora/update.hpp"
#include "peft/ops/factorise.hpp"

namespace peft {

// What a fresh LoRA begins as: InitLoraWeights.

namespace detail {
/// A = Q₁ᵀ G / 10 and B = Hᵀ Q₂ / 10 for normal G (r/2, in), H (r/2, out), and the rows Q₁, Q₂ (r/2, r) of an orthogonal matrix by turns: B A = 0, and both
/// train from the first step on.
template <Scalar T>
void begin_orthogonal(Tensor<T>& A, Tensor<T>& B, std::string_view path, Random& random) {
  const std::int64_t r = A.rows(), half = r / 2;
  if (r % 2 != 0)
    throw ConfigError("lora.attach",
                      "init_lora_weights \"orthogonal\" with r = " + std::to_string(r) + " at " + std::string(path) + "; an even rank is wanted");
  const auto normal = [&](const Shape& shape) {
    Tensor<T> draws(shape);
    for (T& value : draws.span()) value = T(random.normal());
    return draws;
  };
  Tensor<T> Q({r, r}), R({r, r});
  ops::split_by_qr<T>(Q.view(), R.view(), normal({r, r}).view());
  const auto every_other = [&](std::int64_t first) { return View<T>{Q.data() + first * r, half, r, 2 * r}; };
  ops::gemm<T>(T(0.1), every_other(0), true, normal({half, A.cols()}).view(), false, T(0), A.view());
  ops::gemm<T>(T(0.1), normal({half, B.rows()}).view(), true, every_other(1), false, T(0), B.view());
}
}  // namespace detail

/// A fresh LoRA for one Linear.
template <Scalar T>
Lora<T> make_lora(const LoraConfig& config, const Linear<T>& site, std::string_view path, Random random) {
  const LoraScale scale = lora_scale(config, path);
  const std::int64_t in = site.in_features(), out = site.out_features();
  Tensor<T> A({scale.r, in}), B = Tensor<T>::zeros({out, scale.r});
  const InitLoraWeights::Kind init = config.init_lora_weights.kind();
  const double bound = 1 / std::sqrt(double(in));
  if (!LeaveUnfilled::on())
    for (T& a : A.span()) a = T(init == InitLoraWeights::gaussian ? random.normal() / double(scale.r) : random.uniform(-bound, bound));
  if (init == InitLoraWeights::orthogonal && !LeaveUnfilled::on()) detail::begin_orthogonal(A, B, path, random);
  if (init == InitLoraWeights::random)
    for (T& b : B.span()) b = T(random.uniform(-1, 1) / std::sqrt(double(scale.r)));
  return {Parameter<T>(std::move(A), true), Parameter<T>(std::move(B), true), T(scale.scaling), config.lora_dropout, name_hash(path)};
}

/// LoRA on what is left of the base when A₀ and B₀ have been taken off it (PiSSA, OLoRA):  y = W x + s B A x − s B₀ A₀ x. The base stays as it is;
/// A₀ and B₀ follow from W, so that a file has A and B alone.
template <Scalar T>
struct LoraOnResidual {
  Lora<T> lora;
  Parameter<T> A0, B0;  // frozen
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const {
    y = low_rank_update(std::move(y), x, A0, B0, -lora.scaling);  // never dropped: it is part of the base
    return lora(base, x, std::move(y));
  }
  void merge_into(Linear<T>& fused, const Linear<T>& base) const {
    ops::gemm<T>(-lora.scaling, B0.value().view(), false, A0.value().view(), false, T(1), fused.weight.value().view());
    lora.merge_into(fused, base);
  }
  static void describe(auto& self, auto&& visit) { Lora<T>::describe(self.lora, visit); }
};

/// LoRA on a quantised copy Q of the base (LoftQ):  y = Q x + b + s B A x. The base stays as it is; Q follows from W, so that a file has A and B alone.
template <Scalar T>
struct LoraOnQuantized {
  Lora<T> lora;
  Linear<T> own;  // Q, frozen, and the base's bias
  const Linear<T>& stand_in(const Linear<T>&) const { return own; }
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const { return lora(base, x, std::move(y)); }
  Variable<T> with_map(const Linear<T>& base, const Variable<T>& x) const { return lora.with_map(base, x); }
  void merge_into(Linear<T>& fused, const Linear<T>& base) const { lora.merge_into(fused, base); }
  static void describe(auto& self, auto&& visit) { Lora<T>::describe(self.lora, visit); }
};

namespace detail {
template <Scalar T>
void check_rank_at(const Lora<T>& lora, const Linear<T>& site) {
  const std::int64_t r = lora.A.shape()[0], most = std::min(site.out_features(), site.in_features());
  if (r > most) throw ConfigError("lora.attach", "r is " + std::to_string(r) + "; " + site.path + " has a rank of at most " + std::to_string(most));
}
}  // namespace detail

/// PiSSA and OLoRA begin with the leading part of the base: s B₀ A₀ by its r largest singular values, or by the first r columns of its QR.
template <Scalar T>
LoraOnResidual<T> on_residual(Lora<T> lora, const Linear<T>& site, InitLoraWeights::Kind init) {
  detail::check_rank_at(lora, site);
  const std::int64_t r = lora.A.shape()[0], out = site.out_features(), in = site.in_features();
  Tensor<T> A({r, in}), B({out, r});
  const Tensor<T> W = site.weight.dense();
  if (init == InitLoraWeights::pissa)
    ops::split_by_svd<T>(B.view(), A.view(), W.view(), double(lora.scaling));
  else
    ops::split_by_qr<T>(B.view(), A.view(), W.view());
  LoraOnResidual<T> all{std::move(lora), Parameter<T>(A.clone()), Parameter<T>(B.clone())};
  all.lora.A.assign(std::move(A)), all.lora.B.assign(std::move(B));
  return all;
}

/// LoftQ (Li et al. 2023, arXiv:2310.08659), algorithm 1: from B A = 0, by turns Q = quantise(W − s B A) and s B A = the r largest singular values of W − Q.
template <Scalar T>
LoraOnQuantized<T> on_quantized(Lora<T> lora, const Linear<T>& site, const InitLoraWeights& init) {
  detail::check_rank_at(lora, site);
  const std::string type(name(init.quantize()));
  if (is_quantized(site.weight.dtype()))
    throw ConfigError("lora.attach",
                      site.path + " is " + std::string(name(site.weight.dtype())) + " already; LoftQ begins with weights that are not quantised");
  const std::int64_t r = lora.A.shape()[0], out = site.out_features(), in = site.in_features();
  if (!ops::quantizable(init.quantize(), in))
    throw ConfigError("lora.attach", site.path + " has " + std::to_string(in) + " inputs, which are not whole blocks of " +
                                         std::to_string(info(init.quantize()).block) + " (" + type + "); leave it out of target_modules");
  Tensor<T> A({r, in}), B({out, r});
  const Tensor<T> W = site.weight.dense();
  ops::OwnedWeight Q = ops::quantized(site.weight.view(), init.quantize());
  for (std::int64_t i = 0; i < init.iterations(); i++) {
    if (i > 0) {
      const Tensor<T> rest = W.clone();
      ops::gemm<T>(-lora.scaling, B.view(), false, A.view(), false, T(1), rest.view());
      Q = ops::quantized(ops::WeightView(rest.view()), init.quantize());
    }
    Tensor<T> lost({out, in});
    ops::widen<T>(lost.view(), Q.view);
    ops::scale<T>(lost.view(), T(-1), lost.view()), ops::add_into<T>(lost.view(), W.view());
    ops::split_by_svd<T>(B.view(), A.view(), lost.view(), double(lora.scaling));
  }
  lora.A.assign(std::move(A)), lora.B.assign(std::move(B));
  return {std::move(lora), Linear<T>(Parameter<T>(Q.view, site.weight.shape(), Q.keep), site.bias, site.path)};
}

}  // namespace peft
