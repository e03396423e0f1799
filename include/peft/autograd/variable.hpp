// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "peft/autograd/gradient.hpp"

namespace peft {

/// How a value that costs little is computed again, with the same bits: norms and activations leave one, so that what backward needs of
/// their results is not kept, but made when it is wanted.
template <Scalar T>
class Recipe {
 public:
  virtual ~Recipe() = default;
  /// Made once, and there until it is forgotten.
  const Tensor<T>& value() {
    if (!made_) made_ = make();
    return made_;
  }
  /// Lets go of what it made and of all that it needs for making.
  void forget() {
    made_ = {};
    drop();
  }
  template <class F>
  static std::shared_ptr<Recipe> of(F f) {
    struct Made final : Recipe {
      std::optional<F> f_;
      explicit Made(F g) : f_(std::move(g)) {}
      Tensor<T> make() override { return (*f_)(); }
      void drop() override { f_.reset(); }
    };
    return std::allocate_shared<Made>(PoolAllocator<Made>(), std::move(f));
  }

 private:
  virtual Tensor<T> make() = 0;
  virtual void drop() = 0;
  Tensor<T> made_;
};

/// What a node keeps of a value until backward: the value, or how to make it.
template <Scalar T>
class Kept {
 public:
  Kept() = default;
  Kept(Tensor<T> value, std::shared_ptr<Recipe<T>> recipe) : value_(recipe ? Tensor<T>() : std::move(value)), recipe_(std::move(recipe)) {}
  explicit operator bool() const { return value_ || recipe_; }
  Tensor<T> value() const { return recipe_ ? recipe_->value() : value_; }

 private:
  Tensor<T> value_;
  std::shared_ptr<Recipe<T>> recipe_;
};

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
  Kept<T> kept() const { return {value_, recipe_}; }
  void set_recipe(std::shared_ptr<Recipe<T>> recipe) { recipe_ = std::move(recipe); }
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
  std::shared_ptr<Recipe<T>> recipe_;
};

}  // namespace peft
