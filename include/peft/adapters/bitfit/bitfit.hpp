// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/bitfit/config.hpp"
#include "peft/adapters/own_tensors.hpp"

namespace peft {

/// BitFit (Ben Zaken et al. 2022, arXiv:2106.10199): the biases train, everything else is frozen.
///
///     x ── W, frozen ── + b (trained) ── y         b begins as the base's
template <Scalar T>
bool attach_adapter(const BitFitConfig& config, Linear<T>& site, const AttachContext& context) {
  if (!site.bias || !targets(config, context.path, context.is_head)) return false;
  site.adapters.attach(context.id, with_own_bias(site));
  return true;
}
template <Scalar T>
bool attach_adapter(const BitFitConfig& config, Norm<T>& site, const AttachContext& context) {
  if (!site.bias || !targets(config, context.path, false)) return false;
  site.adapters.attach(context.id, with_own_bias(site));
  return true;
}
template <Scalar T>
bool attachable(const BitFitConfig&, const Linear<T>& site) {
  return bool(site.bias);
}
template <Scalar T>
bool attachable(const BitFitConfig&, const Norm<T>& site) {
  return bool(site.bias);
}

}  // namespace peft
