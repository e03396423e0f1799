// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/on_linear.hpp"
#include "peft/adapters/road/config.hpp"

namespace peft {

/// RoAd (Liao & Monz 2024, arXiv:2409.00119): turns and stretches pairs of outputs.
///
///     x ── W, frozen ── (a, b) of each group's halves ── (a c₁ − b c₂, b c₁ + a c₂) ── y        c₁ = α cos θ, c₂ = α sin θ
///
/// The bias turns along. road_1: a θ and an α for each pair; road_2: for each output; road_4: two of each.
template <Scalar T>
struct Road {
  Parameter<T> theta, alpha;
  std::shared_ptr<const ops::GatherMap> first, second;  // of each output's θ and α for c₁ and c₂
  std::int64_t group = 0, out = 0;
  Variable<T> turned(const Variable<T>& y) const {
    const auto at = [&](const Parameter<T>& p, const auto& map) { return gather(p.variable(), map, {out}); };
    const Variable<T> c1 = multiply(at(alpha, first), cos(at(theta, first))), c2 = multiply(at(alpha, second), sin(at(theta, second)));
    return add(scale_columns(y, c1), scale_columns(rotate_halves(y, group), c2));
  }
  Variable<T> operator()(const Linear<T>&, const Variable<T>&, Variable<T> y) const { return turned(y); }
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    change_weight(fused, [&](const Variable<T>& W) { return transpose(turned(transpose(W))); });
    if (!fused.bias) return;
    const NoGrad guard;
    fused.bias.assign(turned(Variable<T>(fused.bias.value().reshape({1, out}))).value().reshape({out}).clone());
  }
  static void describe(auto& self, auto&& visit) {
    visit("road_theta", self.theta);
    visit("road_alpha", self.alpha);
  }
};

template <Scalar T>
bool attach_adapter(const RoadConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t out = site.out_features(), g = config.group_size;
    must_divide("road.attach", "group_size", g, context.path, out);
    auto first = std::make_shared<ops::GatherMap>(), second = std::make_shared<ops::GatherMap>();
    for (std::int64_t o = 0; o < out; o++) {
      const std::int64_t group = o / g, within = o % g;
      const std::int64_t one = config.variant == "road_1" ? group * (g / 2) + within % (g / 2) : config.variant == "road_2" ? o : group * 2 * g + within;
      first->from.push_back(one), second->from.push_back(config.variant == "road_4" ? one + g : one);
    }
    const std::int64_t n = config.variant == "road_1" ? out / 2 : config.variant == "road_2" ? out : 2 * out;
    Parameter<T> theta = config.init_weights ? constant<T>({n}, 0) : drawn_normal<T>({n}, 0, 0.5, random);
    Parameter<T> alpha = config.init_weights ? constant<T>({n}, 1) : drawn_normal<T>({n}, 1, 0.5, random);
    return Road<T>{std::move(theta), std::move(alpha), std::move(first), std::move(second), g, out};
  });
}
template <Scalar T>
bool attachable(const RoadConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
