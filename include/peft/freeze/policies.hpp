// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/freeze/policy.hpp"

namespace peft {

/// Trains every adapter, and nothing of the base.
struct AdaptersOnly {
  using is_freezing_policy = void;
  bool operator()(const ParameterInfo& info) const { return !info.adapter.empty(); }
};

/// Trains the biases of the base     (BitFit: Ben Zaken et al. 2021, arXiv:2106.10199)
struct BiasOnly {
  using is_freezing_policy = void;
  bool operator()(const ParameterInfo& info) const { return info.adapter.empty() && info.is_bias(); }
};

/// Full fine-tuning.
struct Everything {
  using is_freezing_policy = void;
  bool operator()(const ParameterInfo&) const { return true; }
};
struct Nothing {
  using is_freezing_policy = void;
  bool operator()(const ParameterInfo&) const { return false; }
};

/// Trains the paths that a pattern matches: `*` is any text, `{24-27}` a number in that range, `{q_proj,v_proj}` one of several words. The
/// pattern may begin at any dot: Matching{"layers.{24-27}.*"} finds "model.layers.25.mlp.up_proj.weight".
struct Matching {
  using is_freezing_policy = void;
  std::string pattern;
  explicit Matching(std::string p) : pattern(std::move(p)) {}
  bool operator()(const ParameterInfo& info) const;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/freeze/impl/policies.inl"
#endif
