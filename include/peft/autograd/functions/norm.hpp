// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/parameter.hpp"
#include "peft/autograd/tape.hpp"
#include "peft/ops/norm.hpp"

namespace peft {

/// y = x / rms(x) ∘ (w + offset) over the last axis; see ops/norm.hpp. Keeps x and one number a row.
template <Scalar T>
Variable<T> rms_norm(const Variable<T>& x, const Parameter<T>& weight, T eps, T offset = 0) {
  if (x.cols() != weight.size()) throw ShapeError("rms_norm", "x " + to_string(x.shape()) + " against a weight " + to_string(weight.shape()));
  Tensor<T> y(x.shape()), inv_rms({x.rows()});
  ops::rms_norm_forward<T>(y.view(), inv_rms.data(), x.view(), weight.value().data(), eps, offset);
  const auto again = [x = x.value(), weight, inv_rms, eps, offset] {
    Tensor<T> made(x.shape());
    ops::rms_norm_forward<T>(made.view(), inv_rms.data(), x.view(), weight.value().data(), eps, offset);
    return made;
  };
  return recorded(std::move(y), x.needs_grad() || weight.requires_grad(), again, [dx = x.gradient(), x = x.value(), weight, inv_rms, offset](Tensor<T> dy) {
    ops::rms_norm_backward<T>(dx.sink(), weight.gradient().sink(), dy.view(), x.view(), weight.value().data(), inv_rms.data(), offset);
  });
}

/// y = (x − mean) / std ∘ w + b over the last axis. Keeps x and two numbers a row.
template <Scalar T>
Variable<T> layer_norm(const Variable<T>& x, const Parameter<T>& weight, const Parameter<T>& bias, T eps) {
  if (x.cols() != weight.size()) throw ShapeError("layer_norm", "x " + to_string(x.shape()) + " against a weight " + to_string(weight.shape()));
  Tensor<T> y(x.shape()), statistics({x.rows(), 2});
  ops::layer_norm_forward<T>(y.view(), statistics.view(), x.view(), weight.value().data(), bias ? bias.value().data() : nullptr, eps);
  const auto again = [x = x.value(), weight, bias, statistics, eps] {
    Tensor<T> made(x.shape());
    ops::layer_norm_forward<T>(made.view(), statistics.view(), x.view(), weight.value().data(), bias ? bias.value().data() : nullptr, eps);
    return made;
  };
  return recorded(std::move(y), x.needs_grad() || weight.requires_grad() || bias.requires_grad(), again,
                  [dx = x.gradient(), x = x.value(), weight, bias, statistics](Tensor<T> dy) {
                    ops::layer_norm_backward<T>(dx.sink(), weight.gradient().sink(), bias.gradient().sink(), dy.view(), x.view(), weight.value().data(),
                                                statistics.view());
                  });
}

}  // namespace peft
