// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "peft/core/tensor.hpp"
#include "peft/ops/elementwise.hpp"
#include "peft/ops/weight_view.hpp"

namespace peft {

/// The place where the contributions to one gradient meet: empty until the first arrives. A handle; null where nobody wants the gradient.
template <Scalar T>
class Gradient {
 public:
  Gradient() = default;
  static Gradient make(const Shape& shape) {
    Gradient g;
    g.state_ = std::allocate_shared<State>(PoolAllocator<State>());
    g.state_->shape = shape;
    return g;
  }
  explicit operator bool() const { return state_ != nullptr; }
  bool empty() const { return !state_ || !state_->sum; }
  const Shape& shape() const { return state_->shape; }
  /// True if both are one place.
  bool is(const Gradient& other) const { return state_ && state_ == other.state_; }
  /// What has arrived so far; an empty tensor if nothing has.
  Tensor<T> value() const { return state_ ? state_->sum : Tensor<T>(); }

  /// Where an op writes its contribution: the first one is written into fresh memory, later ones are added. Memory that somebody
  /// else still holds (a gradient handed on as it was) is copied first. Null if nobody wants it.
  ops::GradSink<T> sink() const {
    if (!state_) return {};
    if (!state_->sum) {
      state_->sum = Tensor<T>(state_->shape);
      return {state_->sum.view(), false};
    }
    own();
    return {state_->sum.view(), true};
  }
  /// The whole sum, zeros if nothing has arrived: for ops that reach only some rows or columns.
  View<T> sum_or_zeros() const {
    const ops::GradSink<T> all = sink();
    if (!all.accumulate) state_->sum.fill(T(0));
    return all.view;
  }
  /// A contribution that exists as a tensor: the first one is taken over without a copy.
  void add(Tensor<T> contribution) const {
    if (!state_) return;
    if (!state_->sum) {
      state_->sum = std::move(contribution);
    } else {
      own();
      ops::add_into<T>(state_->sum.view(), contribution.view());
    }
  }
  /// Hands the sum out and is empty again.
  Tensor<T> take() const { return state_ ? std::exchange(state_->sum, Tensor<T>()) : Tensor<T>(); }
  void clear() const { take(); }

 private:
  struct State {
    Tensor<T> sum;
    Shape shape;
  };
  void own() const {
    if (!state_->sum.sole_holder()) state_->sum = state_->sum.clone();
  }
  std::shared_ptr<State> state_;
};

}  // namespace peft
