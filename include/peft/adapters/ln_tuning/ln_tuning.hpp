// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/ln_tuning/config.hpp"
#include "peft/nn/norm.hpp"

namespace peft {

/// LN tuning (Zhao et al. 2023, arXiv:2312.11420): the norms train, as copies of their own; everything else is frozen.
///
///     x ── (x − mean) / deviation ── ∘ weight (trained) + bias (trained) ── y
template <Scalar T>
struct TunedNorm {
  Norm<T> own;
  const Norm<T>& stand_in(const Norm<T>&) const { return own; }
  static void describe(auto& self, auto&& visit) {
    visit("ln_tuning_layers.weight", self.own.weight);
    visit("ln_tuning_layers.bias", self.own.bias);
  }
};

template <Scalar T>
bool attach_adapter(const LNTuningConfig& config, Norm<T>& site, const AttachContext& context) {
  if (!targets(config, context.path, false)) return false;
  Norm<T> own = site.dense();
  own.weight.set_requires_grad(true);
  own.bias.set_requires_grad(true);
  site.adapters.attach(context.id, TunedNorm<T>{std::move(own)});
  return true;
}
template <Scalar T>
bool attachable(const LNTuningConfig&, const Norm<T>&) {
  return true;
}

}  // namespace peft
