// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "peft/core/tensor.hpp"

namespace peft::ops {

/// What one AdamW step multiplies by; computed in double, applied in T.
struct AdamwStep {
  double decay = 1;  // 1 − lr · weight_decay
  double beta1 = 0.9, beta2 = 0.999;
  double step_size = 0;   // lr / (1 − beta1^t)
  double root_bias2 = 1;  // √(1 − beta2^t)
  double eps = 1e-8;
};

/// p ← decay · p;  m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  p ← p − step_size · m / (√v / root_bias2 + ε)
/// (Loshchilov & Hutter 2017, arXiv:1711.05101, in PyTorch's order of operations). All of the same shape; g may be strided.
template <Scalar T>
void adamw_update(View<T> p, View<T> m, View<T> v, View<const T> g, const AdamwStep& step);
/// The same for many tensors in one go: hundreds of small ones cost what one large one does.
template <class T>
struct AdamwTensor {
  View<T> p, m, v;
  View<const T> g;
  AdamwStep step;
};
template <Scalar T>
void adamw_update(std::span<const AdamwTensor<T>> tensors);

/// buffer ← momentum · buffer + g (buffer null: none);  p ← decay · p − lr · (buffer or g)
template <Scalar T>
void sgd_update(View<T> p, View<T> buffer, View<const T> g, double lr, double momentum, double decay);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/update.inl"
#endif
