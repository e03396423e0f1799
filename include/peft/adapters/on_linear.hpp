// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/config_fields.hpp"
#include "peft/autograd/functions/linear.hpp"
#include "peft/autograd/functions/matrix.hpp"
#include "peft/autograd/functions/pointwise.hpp"
#include "peft/autograd/functions/rows.hpp"
#include "peft/nn/linear.hpp"

namespace peft {

// What methods that sit on Linears have in common.

/// Attaches make(random) if the config selects the site.
template <class C, Scalar T, class Make>
bool attach_if_targeted(const C& config, Linear<T>& site, const AttachContext& context, Make make) {
  if (!targets(config, context.path, context.is_head)) return false;
  site.adapters.attach(context.id, make(context.at_site()));
  return true;
}

/// Dropout at one site, as the current pass has it.
template <Scalar T>
struct SiteDropout {
  double p = 0;
  std::uint64_t site = 0;  // names the site
  Variable<T> operator()(const Variable<T>& x) const {
    const Pass<T>* pass = Pass<T>::current();
    return pass && p > 0 ? dropout(x, pass->dropping(p, site)) : x;
  }
};

/// LyCORIS's dropout of what is added to a weight: of rows of Δ (rank_dropout), or of all of it (module_dropout). One draw a site and forward.
template <Scalar T>
struct DeltaDropout {
  double rank = 0, module = 0;
  bool rescale = true;     // the rows that are left are divided by their share
  std::uint64_t site = 0;  // names the site
  /// y + x Δᵀ with what this pass leaves of Δ; delta() gives it.
  template <class F>
  Variable<T> add(Variable<T> y, const Variable<T>& x, F delta) const {
    const Pass<T>* pass = Pass<T>::current();
    if (!pass || !pass->training || (rank == 0 && module == 0)) return add_product(std::move(y), x, delta());
    const std::uint64_t key = mix(mix(pass->seed, pass->forward), site);
    if (module > 0 && DropoutKey{key, module}.factor<T>(0, 0) == 0) return y;
    if (rank == 0) return add_product(std::move(y), x, delta());
    const DropoutKey rows{key, rank};
    Tensor<T> kept({y.cols()});
    std::int64_t count = 0;
    for (std::int64_t o = 0; o < kept.size(); o++) {
      const bool stays = rows.factor<T>(1, std::uint64_t(o)) != 0;
      kept[o] = T(stays), count += stays;
    }
    if (count == 0) return y;
    if (rescale) ops::scale<T>(kept.view(), T(kept.size()) / T(count), kept.view());
    return add_product(std::move(y), x, scale_rows(delta(), Variable<T>(std::move(kept))));
  }
};

/// W ← W + Δ
template <Scalar T>
void add_to_weight(Linear<T>& fused, const Variable<T>& delta) {
  ops::add_into<T>(fused.weight.value().view(), delta.view());
  fused.weight.touch();
}
/// W ← what f makes of it.
template <Scalar T, class F>
void change_weight(Linear<T>& fused, F f) {
  const NoGrad guard;
  fused.weight.assign(f(Variable<T>(fused.weight.value())).value().clone());
}

/// A tensor that trains, filled by draw().
template <Scalar T, class F>
Parameter<T> drawn(const Shape& shape, F draw) {
  Tensor<T> values(shape);
  for (T& value : values.span()) value = T(draw());
  return Parameter<T>(std::move(values), true);
}
template <Scalar T>
Parameter<T> constant(const Shape& shape, double value) {
  return Parameter<T>(Tensor<T>(shape, T(value)), true);
}
/// A tensor that trains, and that a file is going to fill.
template <Scalar T>
Parameter<T> unfilled(const Shape& shape) {
  return Parameter<T>(Tensor<T>(shape), true);
}
/// U(−bound, bound)
template <Scalar T>
Parameter<T> drawn_uniform(const Shape& shape, double bound, Random& random) {
  if (LeaveUnfilled::on()) return unfilled<T>(shape);
  return drawn<T>(shape, [&] { return random.uniform(-bound, bound); });
}
template <Scalar T>
Parameter<T> drawn_normal(const Shape& shape, double mean, double deviation, Random& random) {
  if (LeaveUnfilled::on()) return unfilled<T>(shape);
  return drawn<T>(shape, [&] { return mean + deviation * random.normal(); });
}
/// torch's kaiming_uniform_ with a = √5: U(±1/√fan_in), fan_in the size of a row.
template <Scalar T>
Parameter<T> kaiming(const Shape& shape, Random& random) {
  std::int64_t fan_in = 1;
  for (int axis = 1; axis < shape.rank(); axis++) fan_in *= shape[axis];
  return drawn_uniform<T>(shape, 1 / std::sqrt(double(std::max<std::int64_t>(fan_in, 1))), random);
}
template <Scalar T>
Parameter<T> kaiming_or_zero(const Shape& shape, bool zero, Random& random) {
  return zero ? constant<T>(shape, 0) : kaiming<T>(shape, random);
}

inline void must_divide(std::string_view method, const std::string& what, std::int64_t part, std::string_view path, std::int64_t whole) {
  if (part < 1 || whole % part != 0)
    throw ConfigError(method,
                      what + " is " + std::to_string(part) + ", which does not divide the " + std::to_string(whole) + " features of " + std::string(path));
}

}  // namespace peft
