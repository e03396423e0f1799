// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <memory>
#include <span>
#include <vector>

#include "peft/autograd/functions/elementwise.hpp"
#include "peft/nn/module.hpp"
#include "peft/nn/pass.hpp"

namespace peft {

/// A callable that somebody else owns; two words.
template <class Signature>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Args...>) FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, Args... args) -> R { return (*static_cast<std::remove_reference_t<F>*>(o))(std::forward<Args>(args)...); }) {}
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

// A site S is the map that an adapter sits on: S::Input, S::Output, s.forward(x), and its frozen tensors. An adapter takes one of three forms.
template <class S>
using In = typename S::Input;
template <class S>
using Out = typename S::Output;
/// What lies below an adapter: the inner adapters, then the frozen map.
template <class S>
using Next = FunctionRef<Out<S>(const In<S>&)>;

/// y′ = a(base, x, y): LoRA and everything additive. y arrives with one holder and may be written in place.
template <class A, class S>
concept ChangesOutput = requires(const A a, const S s, In<S> x, Out<S> y) {
  { a(s, x, std::move(y)) } -> std::same_as<Out<S>>;
};
/// y = a(base, x, next): OFT, IA3 on feed-forward, observers.
template <class A, class S>
concept WrapsMap = requires(const A a, const S s, In<S> x, Next<S> next) {
  { a(s, x, next) } -> std::same_as<Out<S>>;
};
/// y = a.with_map(base, x): what adds to the output, and can do so while the map is computed. Used where no other adapter is in between.
template <class A, class S>
concept JoinsMap = ChangesOutput<A, S> && requires(const A a, const S s, In<S> x) {
  { a.with_map(s, x) } -> std::same_as<Out<S>>;
};
/// Lends its own tensors to the same function: modules_to_save, trained biases and norms.
template <class A, class S>
concept StandsIn = requires(const A a, const S s) {
  { a.stand_in(s) } -> std::same_as<const S&>;
};
template <class A, class S>
concept Adapter = std::move_constructible<A> && Module<A> &&(ChangesOutput<A, S> || WrapsMap<A, S> || StandsIn<A, S>);
/// a.merge_into(fused, base) turns a dense copy of the site.
template <class A, class S>
concept Mergeable = requires(const A a, S& fused, const S base) {
  a.merge_into(fused, base);
};

namespace detail {
template <class S>
concept HasRows = requires(const In<S> x, Out<S> y) {
  S::rows(x, std::int64_t(0), std::int64_t(0));
};
/// A site whose output rows depend on all input rows: it runs on a whole batch, or not at all.
template <class S>
concept MixesRows = requires {
  requires S::mixes_rows;
};
}  // namespace detail

/// Where adapters are attached to a site S. Empty: one test. The kind of adapter is erased in a private holder; an adapter inherits nothing.
/// Active adapters form a chain, the first innermost. A copied module starts with an empty slot.
template <class S>
class AdapterSlot {
 public:
  using T = typename S::Scalar_;
  using ParameterVisitor = FunctionRef<void(const std::string&, Parameter<T>&)>;

  AdapterSlot() = default;
  AdapterSlot(AdapterSlot&&) noexcept = default;
  AdapterSlot& operator=(AdapterSlot&&) noexcept = default;
  AdapterSlot(const AdapterSlot&) {}
  AdapterSlot& operator=(const AdapterSlot&) {
    state_.reset();
    return *this;
  }

  bool empty() const { return !state_; }
  bool has(int id) const { return find(id) != nullptr; }
  /// True if something attached here is active in this pass, so that a fused path over the site must not be taken.
  bool engaged() const {
    if (!state_) return false;
    const Pass<T>* pass = Pass<T>::current();
    if (!pass || !pass->lists) return true;
    return std::ranges::any_of(*pass->lists, [&](const Active& ids) { return std::ranges::any_of(ids, [&](int id) { return has(id); }); });
  }

  template <class A>
  void attach(int id, A adapter) {
    static_assert(Adapter<A, S>, "an adapter needs describe, and one of: operator()(base, x, y), operator()(base, x, next), stand_in(base)");
    if (has(id)) throw AdapterError("attach", "adapter number " + std::to_string(id) + " sits on this site already");
    if (!state_) state_ = std::make_unique<State>();
    unmerge();
    state_->held.push_back(std::make_unique<Holder<A>>(id, std::move(adapter)));
    state_->ids.push_back(id);
  }
  void detach(int id) {
    if (!state_) return;
    std::erase_if(state_->held, [&](const auto& held) { return held->id == id; });
    std::erase(state_->ids, id);
    unmerge();
    if (state_->held.empty()) state_.reset();
  }
  /// f(name, parameter) for the tensors of adapter `id` here, if it is.
  void for_each_parameter(int id, ParameterVisitor f) const {
    if (const Held* held = find(id)) held->visit(f);
  }
  /// The adapter itself, if it is an A.
  template <class A>
  const A* get(int id) const {
    const auto* holder = dynamic_cast<const Holder<A>*>(find(id));
    return holder ? &holder->adapter : nullptr;
  }
  bool mergeable(int id) const {
    const Held* held = find(id);
    return !held || held->mergeable();
  }

  /// Keeps a dense copy of the site with `ids` merged, used whenever exactly these are active. Base and adapters stay as they are.
  void merge(const S& site, const Active& ids) {
    if (!state_) return;
    const Chain on = here(ids);
    if (on.empty()) return;
    auto fused = std::make_unique<S>(dense_base(site, ids));
    merge_into(*fused, site, ids);
    state_->fused = std::move(fused), state_->fused_ids = attached(ids);
  }
  /// What merge does, to tensors of the caller's.
  void merge_into(S& fused, const S& site, const Active& ids) const {
    const Chain on = here(ids);
    for (const Held* held : on) held->merge_into(fused, base_of(site, on));
  }
  /// A dense copy of the tensors that adapters see as the base where `ids` are active: the site's own, or those of the one that stands in.
  S dense_base(const S& site, const Active& ids) const { return base_of(site, here(ids)).dense(); }
  /// Drops the copy: exact, whatever the method.
  void unmerge() {
    if (state_) state_->fused.reset(), state_->fused_ids.clear();
  }
  const S* merged() const { return state_ ? state_->fused.get() : nullptr; }

  Out<S> operator()(const S& site, const In<S>& x) const {
    if (!state_) return site.forward(x);
    const Pass<T>* pass = Pass<T>::current();
    if (!pass || !pass->lists) return one(site, state_->ids, x);
    const auto ranges = pass->ranges();
    if (ranges.size() <= 1) return one(site, ranges.empty() ? pass->lists->at(0) : *ranges[0].active, x);
    if constexpr (detail::HasRows<S>)
      return by_ranges(site, ranges, x);
    else
      refuse_ranges();
  }

 private:
  struct Held {
    int id;
    bool shares_base;  // the base's product does not depend on who is active
    Held(int i, bool shares) : id(i), shares_base(shares) {}
    virtual ~Held() = default;
    virtual const S* stand_in(const S& site) const = 0;
    virtual Out<S> run(const S& base, const In<S>& x, Next<S> next) const = 0;
    virtual Out<S> innermost(const S& base, const In<S>& x) const = 0;
    virtual void merge_into(S& fused, const S& base) const = 0;
    virtual bool mergeable() const = 0;
    virtual void visit(ParameterVisitor f) const = 0;
  };
  template <class A>
  struct Holder final : Held {
    mutable A adapter;
    Holder(int i, A a) : Held(i, ChangesOutput<A, S> && !StandsIn<A, S>), adapter(std::move(a)) {}
    const S* stand_in([[maybe_unused]] const S& site) const override {
      if constexpr (StandsIn<A, S>)
        return &std::as_const(adapter).stand_in(site);
      else
        return nullptr;
    }
    Out<S> run([[maybe_unused]] const S& base, const In<S>& x, Next<S> next) const override {
      if constexpr (WrapsMap<A, S>)
        return std::as_const(adapter)(base, x, next);
      else if constexpr (ChangesOutput<A, S>)
        return std::as_const(adapter)(base, x, next(x));
      else
        return next(x);
    }
    Out<S> innermost(const S& base, const In<S>& x) const override {
      if constexpr (JoinsMap<A, S>)
        return std::as_const(adapter).with_map(base, x);
      else
        return run(base, x, [&](const In<S>& inner) { return base.forward(inner); });
    }
    void merge_into([[maybe_unused]] S& fused, [[maybe_unused]] const S& base) const override {
      if constexpr (Mergeable<A, S>)
        std::as_const(adapter).merge_into(fused, base);
      else if constexpr (!StandsIn<A, S>)
        throw AdapterError("merge", "this kind of adapter cannot be merged into a weight");
    }
    bool mergeable() const override { return Mergeable<A, S> || StandsIn<A, S>; }
    void visit(ParameterVisitor f) const override { peft::for_each_parameter(adapter, f); }
  };
  struct State {
    std::vector<std::unique_ptr<Held>> held;
    Active ids, fused_ids;
    std::unique_ptr<const S> fused;
  };
  // The holders of one active list at this site, without an allocation.
  class Chain {
   public:
    void push(const Held* held) {
      if (count_ == on_.size()) throw AdapterError("forward", "more than 16 adapters are active on one site");
      on_[count_++] = held;
    }
    std::span<const Held* const> span() const { return {on_.data(), count_}; }
    bool empty() const { return count_ == 0; }
    auto begin() const { return on_.begin(); }
    auto end() const { return on_.begin() + std::ptrdiff_t(count_); }

   private:
    std::array<const Held*, 16> on_{};
    std::size_t count_ = 0;
  };

  const Held* find(int id) const {
    if (state_)
      for (const auto& held : state_->held)
        if (held->id == id) return held.get();
    return nullptr;
  }
  Chain here(const Active& ids) const {
    Chain on;
    for (int id : ids)
      if (const Held* held = find(id)) on.push(held);
    return on;
  }
  Active attached(const Active& ids) const {
    Active on;
    std::ranges::copy_if(ids, std::back_inserter(on), [&](int id) { return has(id); });
    return on;
  }
  // The tensors that the chain's adapters see as the base: the site's own, or those of the one that stands in.
  static const S& base_of(const S& site, const Chain& on) {
    const S* base = &site;
    for (const Held* held : on)
      if (const S* own = held->stand_in(site)) {
        if (base != &site) throw AdapterError("forward", "two active adapters both replace the tensors of " + site.path + "; deactivate one of them");
        base = own;
      }
    return *base;
  }
  static Out<S> chain(const S& base, std::span<const Held* const> on, const In<S>& x) {
    if (on.empty()) return base.forward(x);
    if (on.size() == 1) return on[0]->innermost(base, x);
    return on.back()->run(base, x, [&](const In<S>& inner) { return chain(base, on.first(on.size() - 1), inner); });
  }
  bool is_fused(const Active& ids) const {
    if (!state_->fused) return false;
    auto want = state_->fused_ids.begin();
    for (int id : ids)
      if (has(id) && (want == state_->fused_ids.end() || *want++ != id)) return false;
    return want == state_->fused_ids.end();
  }
  Out<S> one(const S& site, const Active& ids, const In<S>& x) const {
    if (is_fused(ids)) return state_->fused->forward(x);
    const Chain on = here(ids);
    return chain(base_of(site, on), on.span(), x);
  }
  [[noreturn]] static void refuse_ranges() { throw AdapterError("forward", "this site does not take different adapters for different sequences of one batch"); }
  template <class Ranges>
  Out<S> by_ranges(const S& site, const Ranges& ranges, const In<S>& x) const {
    bool share = true;
    for (const auto& range : ranges)
      for (const Held* held : here(*range.active)) share = share && held->shares_base;
    if (detail::MixesRows<S> && !share) refuse_ranges();
    Out<S> y;
    if (share) y = site.forward(x);  // one product for the whole batch, whoever owns which rows
    std::vector<Out<S>, PoolAllocator<Out<S>>> parts;
    for (const auto& [begin, end, active] : ranges) {
      const In<S> part = S::rows(x, begin, end);
      if (!share) {
        parts.push_back(one(site, *active, part));
        continue;
      }
      Out<S> out = peft::rows(y, begin, end);
      for (const Held* held : here(*active)) out = held->run(site, part, [&](const In<S>&) { return std::move(out); });
      parts.push_back(std::move(out));
    }
    y = {};
    return concat_rows<T>(parts);
  }
  std::unique_ptr<State> state_;
};

}  // namespace peft
