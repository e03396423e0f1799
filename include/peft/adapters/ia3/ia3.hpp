// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/ia3/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// IA³ on attention (Liu et al. 2022, arXiv:2205.05638): a scale for each output.
///
///     x ── W, frozen ── ∘ l (out) ── y         the bias is scaled, too; l begins at 1
template <Scalar T>
struct IA3Output {
  Parameter<T> l;  // (out_features, 1)
  Variable<T> operator()(const Linear<T>&, const Variable<T>&, Variable<T> y) const { return scale_columns(y, l.variable()); }
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    ops::scale_rows<T>(fused.weight.value().view(), fused.weight.value().view(), l.value().data());
    fused.weight.touch();
    if (!fused.bias) return;
    for (std::int64_t i = 0; i < l.size(); i++) fused.bias.value()[i] *= l.value()[i];
    fused.bias.touch();
  }
  static void describe(auto& self, auto&& visit) { visit("ia3_l", self.l); }
};

/// IA³ on feed-forward: a scale for each input.   x ── ∘ l (in) ── W, frozen ── y
template <Scalar T>
struct IA3Input {
  Parameter<T> l;  // (1, in_features)
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, const Next<Linear<T>>& next) const { return next(scale_columns(x, l.variable())); }
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    ops::scale_columns<T>(fused.weight.value().view(), fused.weight.value().view(), l.value().data());
    fused.weight.touch();
  }
  static void describe(auto& self, auto&& visit) { visit("ia3_l", self.l); }
};

namespace detail {
/// PEFT takes a path whose end is the name, dot or no dot in front.
inline bool is_feedforward(const TargetModules& modules, std::string_view path) {
  if (!modules.is_list()) return modules.matches(path);
  return std::ranges::any_of(modules.names(), [&](const std::string& name) { return path.ends_with(name); });
}
}  // namespace detail

template <Scalar T>
bool attach_adapter(const IA3Config& config, Linear<T>& site, const AttachContext& context) {
  if (!targets(config, context.path, context.is_head)) return false;
  Random random = context.at_site();
  const auto scales = [&](const Shape& shape) { return config.init_ia3_weights ? constant<T>(shape, 1) : drawn_normal<T>(shape, 0, 1, random); };
  if (detail::is_feedforward(config.feedforward_modules, context.path))
    site.adapters.attach(context.id, IA3Input<T>{scales({1, site.in_features()})});
  else
    site.adapters.attach(context.id, IA3Output<T>{scales({site.out_features(), 1})});
  return true;
}
template <Scalar T>
bool attachable(const IA3Config&, const Linear<T>&) {
  return true;
}

}  // namespace peft
