// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/gradient.hpp"

namespace peft {

/// A value in a computation, and where its gradient goes if anybody wants it. A handle: copies share both.
template <Scalar T>
class Variable {
 public:
  Variable() = default;
  /*implicit*/ Variable(Tensor<T> value, bool needs_grad = false) : value_(std::move(value)) {
    if (needs_grad) gradient_ = Gradient<T>::make(value_.shape());
  }
  Variable(Tensor<T> value, Gradient<T> gradient) : value_(std::move(value)), gradient_(std::move(gradient)) {}

  const Tensor<T>& value() const { return value_; }
  /// Gives the value up, so that its next holder may be the only one.
  Tensor<T> release() && { return std::move(value_); }
  const Gradient<T>& gradient() const { return gradient_; }
  bool needs_grad() const { return bool(gradient_); }
  /// The gradient that backward left here (leaves keep theirs); empty if none arrived.
  Tensor<T> grad() const { return gradient_.value(); }

  const Shape& shape() const { return value_.shape(); }
  std::int64_t rows() const { return value_.rows(); }
  std::int64_t cols() const { return value_.cols(); }
  View<T> view() const { return value_.view(); }
  explicit operator bool() const { return bool(value_); }

 private:
  Tensor<T> value_;
  Gradient<T> gradient_;
};

}  // namespace peft
