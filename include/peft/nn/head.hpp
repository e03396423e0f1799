// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "peft/autograd/functions/activation.hpp"
#include "peft/nn/linear.hpp"
#include "peft/nn/norm.hpp"

namespace peft {

/// What stands between the hidden states and the last Linear:  norm(f(dense x)). BERT's pooler and the transform of masked language models.
template <Scalar T>
struct HeadTransform {
  Linear<T> dense;
  Activation act = Activation::tanh;
  std::optional<Norm<T>> norm;

  Variable<T> operator()(const Variable<T>& x) const {
    Variable<T> y = activation(dense(x), act);
    return norm ? (*norm)(y) : y;
  }
  static void describe(auto& self, auto&& visit) {
    visit("dense", self.dense);
    if (self.norm) visit("norm", *self.norm);
  }
};

}  // namespace peft
