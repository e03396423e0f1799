// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>

#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/update.hpp"

#define PEFT_KERNELS "peft/ops/impl/update_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops {

template <Scalar T>
void adamw_update(View<T> p, View<T> m, View<T> v, View<const T> g, const AdamwStep& step) {
  // 1 − β in double: 1 − float(0.999) is off by 5e-5 of itself.
  const T rest1 = T(1 - step.beta1), rest2 = T(1 - step.beta2);
  detail::each_row(p.rows, p.cols, [&](std::int64_t i) {
    PEFT_DISPATCH(row_adamw<T>, p.row(i), m.row(i), v.row(i), g.row(i), T(step.decay), T(step.beta1), rest1, T(step.beta2), rest2, T(step.step_size),
                  T(step.root_bias2), T(step.eps), p.cols);
  });
}

template <Scalar T>
void sgd_update(View<T> p, View<T> buffer, View<const T> g, double lr, double momentum, double decay) {
  detail::each_row(p.rows, p.cols, [&](std::int64_t i) {
    const T* direction = g.row(i);
    if (buffer) {
      PEFT_DISPATCH(row_scale_add<T>, buffer.row(i), T(1), direction, T(momentum), p.cols);
      direction = buffer.row(i);
    }
    PEFT_DISPATCH(row_scale_add<T>, p.row(i), T(-lr), direction, T(decay), p.cols);
  });
}

}  // namespace peft::ops
