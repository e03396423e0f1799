// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <type_traits>
#include <vector>

#include "peft/autograd/parameter.hpp"

namespace peft {

namespace detail {
struct AnyVisitor {
  void operator()(std::string_view, auto&&) const {}
};
}  // namespace detail

/// A struct that says what it consists of: `static void describe(auto& self, auto&& visit) { visit("weight", self.weight); … }`. Members may be
/// Parameters, modules, and vectors of modules. Counting, freezing, saving and loading all derive from it.
template <class M>
concept Module = requires(M& m) {
  M::describe(m, detail::AnyVisitor{});
};

/// A module that adapters can sit on: it has a slot, and a path that names it as the file it came from does.
template <class M>
concept Site = Module<M> && requires(M& m) {
  m.adapters;
  { m.path } -> std::convertible_to<std::string>;
};

namespace detail {
template <class P>
inline constexpr bool is_parameter = false;
template <Scalar T>
inline constexpr bool is_parameter<Parameter<T>> = true;

inline std::string join_path(const std::string& prefix, std::string_view name) { return prefix.empty() ? std::string(name) : prefix + "." + std::string(name); }

// Depth first, in the order of describe. A site with a path of its own starts anew from it: that is the file's name for it.
template <class Node, class OnParameter, class OnModule>
void walk(Node& node, const std::string& path, OnParameter& on_parameter, OnModule& on_module) {
  using Plain = std::remove_const_t<Node>;
  if constexpr (is_parameter<Plain>) {
    if (node) on_parameter(path, node);
  } else if constexpr (requires { node.size(), node[0], node.begin(); }) {
    for (std::size_t i = 0; i < node.size(); i++) walk(node[i], join_path(path, std::to_string(i)), on_parameter, on_module);
  } else {
    static_assert(Module<Plain>, "a module needs: static void describe(auto& self, auto&& visit) { visit(\"name\", self.member); … }");
    std::string here = path;
    if constexpr (requires { node.path; })
      if (!node.path.empty()) here = node.path;
    on_module(here, node);
    Plain::describe(node, [&](std::string_view name, auto& member) { walk(member, join_path(here, name), on_parameter, on_module); });
  }
}
struct Nothing {
  void operator()(const std::string&, auto&) const {}
};
}  // namespace detail

/// f(path, parameter) for every parameter that is present, in the order of describe. A tensor that two sites share is visited at both;
/// `identity()` tells.
template <class M, class F>
void for_each_parameter(M& module, F f) {
  static_assert(Module<std::remove_const_t<M>>, "a module needs: static void describe(auto& self, auto&& visit) { visit(\"name\", self.member); … }");
  detail::Nothing nothing;
  detail::walk(module, "", f, nothing);
}

/// f(path, module) for every module within, itself included.
template <class M, class F>
void for_each_module(M& module, F f) {
  static_assert(Module<std::remove_const_t<M>>, "a module needs: static void describe(auto& self, auto&& visit) { visit(\"name\", self.member); … }");
  detail::Nothing nothing;
  detail::walk(module, "", nothing, f);
}

/// f(path, site) for every module that adapters can sit on.
template <class M, class F>
void for_each_site(M& module, F f) {
  for_each_module(module, [&]<class N>(const std::string& path, N& node) {
    if constexpr (Site<std::remove_const_t<N>>) f(path, node);
  });
}

/// Trainable and total numbers, each tensor counted once.
struct ParameterCount {
  std::int64_t trainable = 0, total = 0;
};
/// "trainable params: 460,800 || all params: 134,975,808 || trainable%: 0.3414", as PEFT prints it.
std::string to_string(const ParameterCount& count);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/nn/impl/module.inl"
#endif
