// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/adapters/bottleneck/config.hpp"
#include "peft/adapters/on_linear.hpp"
#include "peft/autograd/functions/activation.hpp"
#include "peft/nn/block.hpp"

namespace peft {

/// What all bottleneck adapters add to the stream:
///
///     Δ(x) = s · (U f(D x + b_D) + b_U)        D (m, hidden), U (hidden, m)
template <Scalar T>
struct Bottleneck {
  Parameter<T> down, down_bias;  // D and b_D
  Parameter<T> up, up_bias;      // U and b_U
  Parameter<T> learned;          // (1): s, if it trains
  T scaling = 1;                 // s, if not
  Activation f = Activation::relu;
  SiteDropout<T> dropout = {};

  /// f(D x + b_D): x (N, hidden) → (N, m). Keeps x.
  Variable<T> inside(const Variable<T>& x) const { return activation(linear(x, down, down_bias), f); }
  /// y + s · (U h + b_U), dropped out if this pass drops; into y if nobody else holds it. Keeps h.
  Variable<T> add_to(Variable<T> y, const Variable<T>& h) const {
    const Variable<T> U = scaled(up), b = scaled(up_bias);
    if (const Pass<T>* pass = Pass<T>::current(); dropout.p > 0 && pass && pass->training)
      return add(std::move(y), dropout(add_row(scale(matmul(h, U, false, true), scaling), scaling, b)));
    return add_row(add_product(std::move(y), h, U, scaling), scaling, b);
  }
  static void describe(auto& self, auto&& visit) {
    visit("adapter_down.weight", self.down);
    visit("adapter_down.bias", self.down_bias);
    visit("adapter_up.weight", self.up);
    visit("adapter_up.bias", self.up_bias);
    visit("scaling", self.learned);
  }

 private:
  // A number that trains scales U and b_U: they are smaller than what they make of x.
  Variable<T> scaled(const Parameter<T>& p) const {
    if (!learned) return p.variable();
    return reshape(scale_rows(reshape(p.variable(), {1, p.size()}), learned.variable()), p.shape());
  }
};

/// Houlsby et al. 2019 (arXiv:1902.00751), behind a sublayer:
///
///     y ← y + Δ(y)                             ahead of the residual sum and of a norm behind it
template <Scalar T>
struct HoulsbyAdapter {
  Bottleneck<T> bottleneck;
  template <class S>
  Variable<T> operator()(const S&, const Variable<T>&, Variable<T> y) const {
    const Variable<T> h = bottleneck.inside(y);
    return bottleneck.add_to(std::move(y), h);
  }
  static void describe(auto& self, auto&& visit) { Bottleneck<T>::describe(self.bottleneck, visit); }
};

/// Pfeiffer et al. 2020 (arXiv:2005.00247), where the feed-forward meets the stream r. It reads what would leave the join, a norm behind the sum included:
///
///     y ← y + Δ(join(r, y)),   join(r, y) = r + y, or norm(r + y)
template <Scalar T>
struct PfeifferAdapter {
  Bottleneck<T> bottleneck;
  Variable<T> operator()(const ResidualJoin<T>& base, const typename ResidualJoin<T>::Input& in, const Next<ResidualJoin<T>>& next) const {
    const Variable<T> h = bottleneck.inside(base.forward(in));
    return next({in.residual, bottleneck.add_to(in.y, h)});
  }
  static void describe(auto& self, auto&& visit) { Bottleneck<T>::describe(self.bottleneck, visit); }
};

/// He et al. 2022 (arXiv:2110.04366), beside the feed-forward:
///
///     y ← y + Δ(x)                             x is what the feed-forward reads
template <Scalar T>
struct ParallelAdapter {
  Bottleneck<T> bottleneck;
  Variable<T> operator()(const Mlp<T>&, const Variable<T>& x, Variable<T> y) const { return bottleneck.add_to(std::move(y), bottleneck.inside(x)); }
  static void describe(auto& self, auto&& visit) { Bottleneck<T>::describe(self.bottleneck, visit); }
};

namespace detail {
inline Activation bottleneck_activation(const std::string& name) {
  if (name == "tanh") return Activation::tanh;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new") return Activation::gelu_tanh;
  return name == "relu" ? Activation::relu : Activation::silu;
}
/// N(0, deviation²), drawn again beyond two deviations: torch's trunc_normal_ with AdapterHub's bounds.
template <Scalar T>
Parameter<T> drawn_truncated_normal(const Shape& shape, double deviation, Random& random) {
  return drawn<T>(shape, [&] {
    double z = random.normal();
    while (std::abs(z) > 2) z = random.normal();
    return deviation * z;
  });
}
template <Scalar T>
Bottleneck<T> fresh_bottleneck(const BottleneckConfig& config, std::int64_t hidden, const AttachContext& context) {
  const std::int64_t m =
      config.bottleneck_size > 0 ? config.bottleneck_size : std::max<std::int64_t>(1, std::int64_t(double(hidden) / config.reduction_factor));
  Random random = context.at_site();
  const auto draw = [&](const Shape& shape, bool up) {
    if (config.init_weights == "bert") return drawn_normal<T>(shape, 0, 0.02, random);
    if (config.init_weights == "houlsby") return drawn_truncated_normal<T>(shape, 0.01, random);
    return kaiming_or_zero<T>(shape, up, random);
  };
  Bottleneck<T> b;
  b.down = draw({m, hidden}, false), b.down_bias = constant<T>({m}, 0);
  b.up = draw({hidden, m}, true), b.up_bias = constant<T>({hidden}, 0);
  if (config.learned_scaling)
    b.learned = constant<T>({1}, config.scaling);
  else
    b.scaling = T(config.scaling);
  b.f = bottleneck_activation(config.non_linearity);
  b.dropout = {config.dropout, name_hash(context.path)};
  return b;
}
}  // namespace detail

inline void complete(BottleneckConfig& config, const ModelInfo& info) {
  if (config.variant == "pfeiffer" && info.hidden_size == 0)
    throw ConfigError("bottleneck.attach", "variant \"pfeiffer\" wants a model whose configuration says its hidden_size");
  config.hidden_size = info.hidden_size;
}

template <Scalar T>
bool attachable(const BottleneckConfig& config, const Attention<T>& site) {
  return config.variant == "houlsby" && (!site.cross || config.cross_adapter);
}
template <Scalar T>
bool attach_adapter(const BottleneckConfig& config, Attention<T>& site, const AttachContext& context) {
  if (!attachable(config, site) || !targets(config, context.path, false)) return false;
  site.adapters.attach(context.id, HoulsbyAdapter<T>{detail::fresh_bottleneck<T>(config, site.o_proj.out_features(), context)});
  return true;
}
template <Scalar T>
bool attachable(const BottleneckConfig& config, const Mlp<T>&) {
  return config.variant != "pfeiffer";
}
template <Scalar T>
bool attach_adapter(const BottleneckConfig& config, Mlp<T>& site, const AttachContext& context) {
  if (!attachable(config, site) || !targets(config, context.path, false)) return false;
  Bottleneck<T> fresh = detail::fresh_bottleneck<T>(config, site.down_proj.out_features(), context);
  if (config.variant == "parallel")
    site.adapters.attach(context.id, ParallelAdapter<T>{std::move(fresh)});
  else
    site.adapters.attach(context.id, HoulsbyAdapter<T>{std::move(fresh)});
  return true;
}
// The joins of a block differ in nothing but their names.
template <Scalar T>
bool attachable(const BottleneckConfig& config, const ResidualJoin<T>& site) {
  return config.variant == "pfeiffer" && is_suffix_of("mlp_join", site.path);
}
template <Scalar T>
bool attach_adapter(const BottleneckConfig& config, ResidualJoin<T>& site, const AttachContext& context) {
  if (config.variant != "pfeiffer" || !is_suffix_of("mlp_join", context.path) || !targets(config, context.path, false)) return false;
  site.adapters.attach(context.id, PfeifferAdapter<T>{detail::fresh_bottleneck<T>(config, config.hidden_size, context)});
  return true;
}

}  // namespace peft
