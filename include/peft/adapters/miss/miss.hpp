// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/miss/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// MiSS (Kang & Yin 2024, arXiv:2409.15371): one shard M that every block of r inputs shares.
///
///     x ── dropout ── Σ over blocks of r ── M (r, out) ── + W x ── y         Δ[o, i] = M[i mod r, o]
///
/// "mini": M (r, mini_r), repeated along the outputs.
template <Scalar T>
struct Miss {
  Parameter<T> M;
  std::shared_ptr<const ops::GatherMap> repeat;  // null: M is whole
  std::int64_t r = 0, out = 0;
  SiteDropout<T> drop;
  Variable<T> shard() const { return repeat ? gather(M.variable(), repeat, {r, out}) : M.variable(); }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const { return add(std::move(y), matmul(fold_columns(drop(x), r), shard())); }
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    const Tensor<T> m = shard().value();
    const View<T> W = fused.weight.value().view();
    for (std::int64_t o = 0; o < W.rows; o++)
      for (std::int64_t i = 0; i < W.cols; i++) W(o, i) += m(i % r, o);
    fused.weight.touch();
  }
  static void describe(auto& self, auto&& visit) { visit("miss_block", self.M); }
};

/// "bat": each (r, r) block of the weight is multiplied by its row's own M:  Δ_block = W_block M + M.  M (out / r, r, r)
template <Scalar T>
struct MissBat {
  Parameter<T> M;
  std::shared_ptr<const ops::GatherMap> tiles;  // M beside itself: (out, in)
  Variable<T> delta(const Linear<T>& base) const {
    const std::int64_t blocks = M.shape()[0], r = M.shape()[1], in = base.in_features(), out = base.out_features();
    const Variable<T> W(base.weight.dense().reshape({blocks, in, r}));  // a row of blocks is (r · in / r, r)
    return add(reshape(batched_matmul(W, M.variable()), {out, in}), gather(M.variable(), tiles, {out, in}));
  }
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const { return add_product(std::move(y), x, delta(base)); }
  void merge_into(Linear<T>& fused, const Linear<T>& base) const { add_to_weight(fused, delta(base)); }
  static void describe(auto& self, auto&& visit) { visit("miss_block", self.M); }
};

template <Scalar T>
bool attach_adapter(const MissConfig& config, Linear<T>& site, const AttachContext& context) {
  if (!targets(config, context.path, context.is_head)) return false;
  const std::int64_t in = site.in_features(), out = site.out_features(), r = config.r;
  if (r > in) throw ConfigError("miss.attach", "r is " + std::to_string(r) + "; " + context.path + " has " + std::to_string(in) + " in_features");
  Random random = context.at_site();
  if (config.init_weights.name == "bat") {
    must_divide("miss.attach", "r", r, context.path, in);
    must_divide("miss.attach", "r", r, context.path, out);
    if (config.miss_dropout != 0) throw NotSupported("miss.attach", "miss_dropout with init_weights \"bat\"");
    auto tiles = std::make_shared<ops::GatherMap>();
    for (std::int64_t o = 0; o < out; o++)
      for (std::int64_t i = 0; i < in; i++) tiles->from.push_back(o * r + i % r);
    site.adapters.attach(context.id, MissBat<T>{constant<T>({out / r, r, r}, 0), std::move(tiles)});
    return true;
  }
  std::shared_ptr<ops::GatherMap> repeat;
  Shape shape{r, out};
  if (config.init_weights.name == "mini") {
    must_divide("miss.attach", "mini_r", config.mini_r, context.path, out);
    shape = {r, config.mini_r};
    repeat = std::make_shared<ops::GatherMap>();
    for (std::int64_t j = 0; j < r; j++)
      for (std::int64_t o = 0; o < out; o++) repeat->from.push_back(j * config.mini_r + o % config.mini_r);
  }
  site.adapters.attach(
      context.id,
      Miss<T>{kaiming_or_zero<T>(shape, config.init_weights.on, random), std::move(repeat), r, out, {config.miss_dropout, name_hash(context.path)}});
  return true;
}
template <Scalar T>
bool attachable(const MissConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
