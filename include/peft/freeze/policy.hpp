// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>

#include <string>
#include <utility>
#include <vector>

#include "peft/nn/module.hpp"

namespace peft {

/// What a policy is asked about.
struct ParameterInfo {
  std::string path;     // as Hugging Face names it, "model.layers.3.self_attn.q_proj.weight"
  std::string adapter;  // the name of the adapter it belongs to; empty for the base
  Shape shape;
  bool is_bias() const { return path.ends_with(".bias") || path == "bias"; }
};

/// Says of each parameter whether it trains. Any callable with this signature is one.
template <class P>
concept FreezingPolicy = requires(const P& p, const ParameterInfo& info) {
  { p(info) } -> std::convertible_to<bool>;
};

/// A policy of the library's own, so that |, & and ! can combine it with others.
template <class F>
struct Policy {
  F trains;
  bool operator()(const ParameterInfo& info) const { return trains(info); }
};
template <class F>
Policy(F) -> Policy<F>;

namespace detail {
template <class P>
concept OwnPolicy = FreezingPolicy<P> &&(
    requires { typename P::is_freezing_policy; } || requires(const P& p) { p.trains; });
}
template <FreezingPolicy A, FreezingPolicy B>
requires(detail::OwnPolicy<A> || detail::OwnPolicy<B>) auto operator|(A a, B b) {
  return Policy{[a = std::move(a), b = std::move(b)](const ParameterInfo& info) { return a(info) || b(info); }};
}
template <FreezingPolicy A, FreezingPolicy B>
requires(detail::OwnPolicy<A> || detail::OwnPolicy<B>) auto operator&(A a, B b) {
  return Policy{[a = std::move(a), b = std::move(b)](const ParameterInfo& info) { return a(info) && b(info); }};
}
template <detail::OwnPolicy A>
auto operator!(A a) {
  return Policy{[a = std::move(a)](const ParameterInfo& info) { return !a(info); }};
}

namespace detail {
// Every parameter with what a policy may know of it. A model with adapters (PeftModel) has a visit_parameters of its own.
template <class M, class F>
void visit_parameters(M& model, F f) {
  if constexpr (requires { model.visit_parameters(f); }) {
    model.visit_parameters(f);
  } else {
    for_each_parameter(model, [&](const std::string& path, auto& parameter) { f(ParameterInfo{path, "", parameter.shape()}, parameter); });
  }
}
[[noreturn]] void refuse_empty_policy(const std::vector<std::string>& names, const std::string& wanted);
}  // namespace detail

/// Trainable and total numbers of a model or PeftModel; a shared tensor counts once.
template <class M>
ParameterCount count_parameters(M& model) {
  ParameterCount count;
  std::vector<const void*> seen;
  detail::visit_parameters(model, [&](const ParameterInfo&, auto& parameter) {
    if (std::find(seen.begin(), seen.end(), parameter.identity()) != seen.end()) return;
    seen.push_back(parameter.identity());
    count.total += parameter.size();
    if (parameter.requires_grad()) count.trainable += parameter.size();
  });
  return count;
}

/// Trains what the policy says and freezes everything else; a frozen tensor that is to train is copied out of its file first. A tensor that
/// several sites share trains if any of its names does. Throws ConfigError if the policy picks nothing.
template <class M, FreezingPolicy P>
ParameterCount freeze(M& model, const P& policy) {
  std::vector<const void*> chosen;
  std::vector<std::string> names;
  detail::visit_parameters(model, [&](const ParameterInfo& info, auto& parameter) {
    names.push_back(info.path);
    if (policy(info)) chosen.push_back(parameter.identity());
  });
  if (chosen.empty()) {
    std::string wanted;
    if constexpr (requires { policy.pattern; }) wanted = policy.pattern;
    detail::refuse_empty_policy(names, wanted);
  }
  detail::visit_parameters(model, [&](const ParameterInfo&, auto& parameter) {
    parameter.set_requires_grad(std::find(chosen.begin(), chosen.end(), parameter.identity()) != chosen.end());
  });
  return count_parameters(model);
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/freeze/policies.hpp"
#endif
