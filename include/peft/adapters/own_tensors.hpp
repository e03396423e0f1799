// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "peft/adapters/adapter.hpp"
#include "peft/nn/embedding.hpp"
#include "peft/nn/linear.hpp"
#include "peft/nn/norm.hpp"

namespace peft {

/// A site with tensors of its own that train, in place of the base's: `modules_to_save`.
template <class S>
struct OwnTensors {
  S own;  // a dense copy
  const S& stand_in(const S&) const { return own; }
  static void describe(auto& self, auto&& visit) { S::describe(self.own, visit); }
};

/// A site with a bias of its own that trains, and the weight shared.
template <class S>
struct OwnBias {
  S own;  // the weight's handle, and a copy of the bias
  const S& stand_in(const S&) const { return own; }
  static void describe(auto& self, auto&& visit) { visit("bias", self.own.bias); }
};
template <class S>
OwnBias<S> with_own_bias(const S& site) {
  S own = site;  // a copied module starts bare
  own.bias = Parameter<typename S::Scalar_>(site.bias.dense(), true);
  return {std::move(own)};
}

/// True if modules_to_save names the module at `path` or one that it is below, by PEFT's rule: a path that ends in the name ("classifier" is
/// DistilBERT's pre_classifier, too).
inline bool is_named(const std::vector<std::string>& names, std::string_view path) {
  while (!path.empty()) {
    for (const std::string& name : names)
      if (!name.empty() && path.ends_with(name)) return true;
    const std::size_t dot = path.rfind('.');
    path = path.substr(0, dot == std::string_view::npos ? 0 : dot);
  }
  return false;
}

/// Puts copies of their own into the slots of the modules that are named, and of all below them.
template <class S>
bool attach_modules_to_save(const std::vector<std::string>& names, S& site, const AttachContext& context) {
  if constexpr (requires {
                  site.weight;
                  site.dense();
                }) {
    if (!is_named(names, context.path)) return false;
    S own = site.dense();
    S::describe(own, [](std::string_view, auto& parameter) {
      if (parameter) parameter.set_requires_grad(true);
    });
    site.adapters.attach(context.id, OwnTensors<S>{std::move(own)});
    return true;
  } else {
    return false;
  }
}

}  // namespace peft
