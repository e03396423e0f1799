// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "peft/autograd/functions/linear.hpp"
#include "peft/nn/adapter_slot.hpp"

namespace peft {

/// y (N, out_features) = x (N, in_features) Wᵀ + b
template <Scalar T>
struct Linear {
  using Scalar_ = T;
  using Input = Variable<T>;
  using Output = Variable<T>;
  Parameter<T> weight;  // (out_features, in_features)
  Parameter<T> bias;    // (out_features); may be absent
  std::string path{};   // the module's name in the file that it came from
  AdapterSlot<Linear> adapters{};

  Linear() = default;
  Linear(Parameter<T> w, Parameter<T> b = {}, std::string name = "") : weight(std::move(w)), bias(std::move(b)), path(std::move(name)) {}
  /// As torch.nn.Linear begins: weight and bias U(−1/√in, 1/√in).
  Linear(std::int64_t in_features, std::int64_t out_features, Random& random, bool with_bias = true, std::string name = "") : path(std::move(name)) {
    const double bound = 1 / std::sqrt(double(in_features));
    const auto draw = [&](const Shape& shape) {
      Tensor<T> values(shape);
      for (T& value : values.span()) value = T(random.uniform(-bound, bound));
      return Parameter<T>(std::move(values), true);
    };
    weight = draw({out_features, in_features});
    if (with_bias) bias = draw({out_features});
  }

  std::int64_t in_features() const { return weight.shape()[1]; }
  std::int64_t out_features() const { return weight.shape()[0]; }
  /// The map itself.
  Variable<T> forward(const Variable<T>& x) const { return linear(x, weight, bias); }
  /// With whatever is attached.
  Variable<T> operator()(const Variable<T>& x) const { return adapters(*this, x); }
  /// A copy with dense T tensors of its own.
  Linear dense() const { return Linear(Parameter<T>(weight.dense()), bias ? Parameter<T>(bias.dense()) : Parameter<T>(), path); }

  static Input rows(const Input& x, std::int64_t begin, std::int64_t end) { return peft::rows(x, begin, end); }
  static void describe(auto& self, auto&& visit) {
    visit("weight", self.weight);
    visit("bias", self.bias);
  }
};

}  // namespace peft
