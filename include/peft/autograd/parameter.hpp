// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/variable.hpp"
#include "peft/ops/quantized.hpp"

namespace peft {

/// One tensor of a model: either frozen storage of any DType, mapped from a file and seen as (out, in) in Hugging Face's order whatever
/// the file does, or a T tensor, which may train. A handle: copies share it (tied weights are one parameter at two sites).
template <Scalar T>
class Parameter {
 public:
  Parameter() = default;  // absent, as a Linear's bias may be
  explicit Parameter(Tensor<T> value, bool requires_grad = false) : state_(std::make_shared<State>()) {
    state_->shape = value.shape(), state_->value = std::move(value);
    set_requires_grad(requires_grad);
  }
  /// Frozen storage; `keep` owns its memory. shape is what a user sees: (out, in), or (n) for a vector.
  Parameter(ops::WeightView stored, const Shape& shape, std::shared_ptr<const void> keep) : state_(std::make_shared<State>()) {
    state_->shape = shape, state_->stored = stored, state_->keep = std::move(keep);
    if (stored.dtype == dtype_of<T> && !stored.transposed && stored.rope_head_dim == 0 && reinterpret_cast<std::uintptr_t>(stored.data) % alignof(T) == 0)
      state_->value = Tensor<T>::borrow(static_cast<T*>(const_cast<void*>(stored.data)), shape, state_->keep);
    else if (shape.rank() < 2)
      state_->value = dense();  // a vector: a few KiB
  }

  explicit operator bool() const { return state_ != nullptr; }
  const Shape& shape() const { return state_->shape; }
  std::int64_t size() const { return state_ ? state_->shape.size() : 0; }
  DType dtype() const { return state_->stored ? state_->stored.dtype : dtype_of<T>; }
  std::int64_t bytes() const { return state_ ? (state_->stored ? state_->stored.bytes() : size() * std::int64_t(sizeof(T))) : 0; }
  /// True while the numbers still lie where the file put them.
  bool is_stored() const { return state_ && state_->stored; }

  bool requires_grad() const { return state_ && state_->gradient; }
  /// Training a frozen tensor copies it first, at every site that shares it; freezing it again keeps the copy.
  void set_requires_grad(bool on) const {
    if (!state_ || on == requires_grad()) return;
    if (on) thaw();
    state_->gradient = on ? Gradient<T>::make(state_->shape) : Gradient<T>();
  }
  void thaw() const {
    if (!state_->stored) return;
    state_->value = dense(), state_->stored = {}, state_->keep = nullptr;
  }

  /// For products, whatever the storage.
  ops::WeightView view() const {
    if (state_->stored) return state_->stored;
    return ops::WeightView(View<const T>(state_->value.view()));
  }
  /// The T tensor itself, without a copy. Throws for a matrix in another storage type: ask view() or dense().
  const Tensor<T>& value() const {
    if (!state_->value)
      throw Error("parameter", "a " + std::string(name(dtype())) + " tensor " + to_string(shape()) + " has no dense value; products take its view()");
    return state_->value;
  }
  /// A contiguous T copy.
  Tensor<T> dense() const {
    if (!state_->stored) return state_->value.clone();
    Tensor<T> copy(state_->shape);
    ops::widen<T>(copy.view(), state_->stored);
    return copy;
  }
  /// Replaces the numbers (shape checked), keeping every handle. The tensor is no longer the file's.
  void assign(Tensor<T> value) const {
    if (!(value.shape() == shape())) throw ShapeError("assign", to_string(value.shape()) + " to a parameter of shape " + to_string(shape()));
    state_->value = value.sole_holder() && value.contiguous() ? std::move(value) : value.clone();
    state_->stored = {}, state_->keep = nullptr;
    touch();
  }
  /// As an input of an op.
  Variable<T> variable() const { return Variable<T>(value(), state_->gradient); }
  const Gradient<T>& gradient() const {
    static const Gradient<T> none;
    return state_ ? state_->gradient : none;
  }
  Tensor<T> grad() const { return gradient().value(); }
  void zero_grad() const { gradient().clear(); }

  /// Grows with every change of the numbers: what was derived from them is remembered under it.
  std::uint64_t version() const { return state_->version; }
  void touch() const { state_->version++; }
  /// Equal for handles that share one tensor.
  const void* identity() const { return state_.get(); }

 private:
  struct State {
    Shape shape;
    ops::WeightView stored;  // frozen, as in the file; null data once thawed
    std::shared_ptr<const void> keep;
    Tensor<T> value;       // owned or borrowed
    Gradient<T> gradient;  // null: frozen
    std::uint64_t version = 0;
  };
  std::shared_ptr<State> state_;
};

}  // namespace peft
