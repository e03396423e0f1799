// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/functions/elementwise.hpp"
#include "peft/autograd/functions/norm.hpp"
#include "peft/nn/adapter_slot.hpp"

namespace peft {

enum class NormKind { rms, layer };

/// RMSNorm or LayerNorm over the last axis. Where the weight is shorter than a row, over each part of the row as long as it: the heads of
/// a query or a key.
template <Scalar T>
struct Norm {
  using Scalar_ = T;
  using Input = Variable<T>;
  using Output = Variable<T>;
  Parameter<T> weight;  // (C), C divides the width of x
  Parameter<T> bias;    // (C); LayerNorm only
  NormKind kind = NormKind::rms;
  T eps = T(1e-5);
  T offset = 0;  // 1 where the stored weight is w − 1, as in Gemma
  std::string path{};
  AdapterSlot<Norm> adapters{};

  Variable<T> forward(const Variable<T>& x) const {
    const std::int64_t c = weight.size();
    if (x.cols() == c || x.cols() % c) return normalized(x);
    return reshape(normalized(reshape(x, Shape{x.rows() * (x.cols() / c), c})), x.shape());
  }
  Variable<T> operator()(const Variable<T>& x) const { return adapters(*this, x); }
  Norm dense() const { return {Parameter<T>(weight.dense()), bias ? Parameter<T>(bias.dense()) : Parameter<T>(), kind, eps, offset, path}; }

  static Input rows(const Input& x, std::int64_t begin, std::int64_t end) { return peft::rows(x, begin, end); }
  static void describe(auto& self, auto&& visit) {
    visit("weight", self.weight);
    visit("bias", self.bias);
  }

 private:
  Variable<T> normalized(const Variable<T>& x) const { return kind == NormKind::rms ? rms_norm(x, weight, eps, offset) : layer_norm(x, weight, bias, eps); }
};

}  // namespace peft
