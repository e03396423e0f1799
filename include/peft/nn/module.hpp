// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <type_traits>
#include <utility>
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

/// The types of the sites within a module M, as its member `Sites`. Such a tree is walked by functions that do not depend on what is done at
/// each stop (Walked<M>): they compile once, where a walk for every visitor would fill most of a program's object code.
template <class... S>
struct SiteTypes {};

namespace detail {
template <class M>
concept KnowsItsSites = requires {
  typename M::Sites;
};
template <class S, class... All>
constexpr int kind_of(SiteTypes<All...>) {
  int kind = 0;
  const bool found = ((std::is_same_v<S, All> || (kind++, false)) || ...);
  return found ? kind : -1;
}
}  // namespace detail

template <class M>
struct Walked {
  using T = typename M::Scalar_;
  struct Stop {
    std::string path;
    int kind;  // which of M::Sites
    void* site;
  };
  static std::vector<Stop> sites(M& module);
  static std::vector<std::pair<std::string, Parameter<T>*>> parameters(M& module);
};

// Not within the struct: what stands there would be inline, and compiled everywhere.
template <class M>
std::vector<typename Walked<M>::Stop> Walked<M>::sites(M& module) {
  std::vector<Stop> stops;
  detail::Nothing nothing;
  auto stop = [&]<class N>(const std::string& path, N& node) {
    if constexpr (Site<N>) {
      constexpr int kind = detail::kind_of<N>(typename M::Sites{});
      static_assert(kind >= 0, "M::Sites lacks the type of a site that is within M");
      stops.push_back({path, kind, &node});
    }
  };
  detail::walk(module, "", nothing, stop);
  return stops;
}
template <class M>
std::vector<std::pair<std::string, Parameter<typename M::Scalar_>*>> Walked<M>::parameters(M& module) {
  std::vector<std::pair<std::string, Parameter<T>*>> all;
  detail::Nothing nothing;
  auto stop = [&](const std::string& path, Parameter<T>& parameter) { all.emplace_back(path, &parameter); };
  detail::walk(module, "", stop, nothing);
  return all;
}

namespace detail {
// Calls f with the site as what it is, const as M is.
template <class M, class F, class... S>
void at_stop(const typename Walked<std::remove_const_t<M>>::Stop& stop, F& f, SiteTypes<S...>) {
  const auto one = [&]<class N>(std::type_identity<N>) {
    if (stop.kind == kind_of<N>(SiteTypes<S...>{})) f(stop.path, *static_cast<std::conditional_t<std::is_const_v<M>, const N, N>*>(stop.site));
  };
  (one(std::type_identity<S>{}), ...);
}
}  // namespace detail

/// f(path, parameter) for every parameter that is present, in the order of describe. A tensor that two sites share is visited at both;
/// `identity()` tells.
template <class M, class F>
void for_each_parameter(M& module, F f) {
  static_assert(Module<std::remove_const_t<M>>, "a module needs: static void describe(auto& self, auto&& visit) { visit(\"name\", self.member); … }");
  using Plain = std::remove_const_t<M>;
  if constexpr (detail::KnowsItsSites<Plain>) {
    for (const auto& [path, parameter] : Walked<Plain>::parameters(const_cast<Plain&>(module)))
      f(path, static_cast<std::conditional_t<std::is_const_v<M>, const Parameter<typename Plain::Scalar_>, Parameter<typename Plain::Scalar_>>&>(*parameter));
  } else {
    detail::Nothing nothing;
    detail::walk(module, "", f, nothing);
  }
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
  using Plain = std::remove_const_t<M>;
  if constexpr (detail::KnowsItsSites<Plain>)
    for (const auto& stop : Walked<Plain>::sites(const_cast<Plain&>(module))) detail::at_stop<M>(stop, f, typename Plain::Sites{});
  else
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
