// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "peft/autograd/functions/activation.hpp"
#include "peft/autograd/functions/elementwise.hpp"
#include "peft/nn/linear.hpp"

namespace peft {

enum class MlpKind { plain, gated };

/// gated:  y = down(f(gate x) ∘ up x)   (SwiGLU, GeGLU: arXiv:2002.05202); gate and up are two Linears, or one with gate's rows in front
/// plain:  y = down(f(up x))
template <Scalar T>
struct Mlp {
  using Scalar_ = T;
  using Input = Variable<T>;
  using Output = Variable<T>;
  MlpKind kind = MlpKind::gated;
  Activation act = Activation::silu;
  std::optional<Linear<T>> gate_proj;     // gated only
  std::optional<Linear<T>> gate_up_proj;  // in place of gate_proj and up_proj
  Linear<T> up_proj, down_proj;
  std::string path{};
  AdapterSlot<Mlp> adapters{};

  Variable<T> forward(const Variable<T>& x) const {
    if (kind == MlpKind::plain) {
      if (!Tape::current() && up_proj.adapters.empty()) return down_proj(linear_activation(x, up_proj.weight, up_proj.bias, act));
      return down_proj(activation(up_proj(x), act));
    }
    if (gate_up_proj) {
      const Variable<T> both = (*gate_up_proj)(x);
      const std::int64_t inner = both.cols() / 2;
      return down_proj(gated(columns(both, 0, inner), columns(both, inner, 2 * inner), act));
    }
    Variable<T> gate = (*gate_proj)(x);
    return down_proj(gated(std::move(gate), up_proj(x), act));
  }
  Variable<T> operator()(const Variable<T>& x) const { return adapters(*this, x); }
  Mlp dense() const { throw AdapterError("merge", "an adapter on a whole sublayer has no weight to be merged into"); }

  static Input rows(const Input& x, std::int64_t begin, std::int64_t end) { return peft::rows(x, begin, end); }
  static void describe(auto& self, auto&& visit) {
    if (self.gate_up_proj) {
      visit("gate_up_proj", *self.gate_up_proj);
    } else {
      if (self.gate_proj) visit("gate_proj", *self.gate_proj);
      visit("up_proj", self.up_proj);
    }
    visit("down_proj", self.down_proj);
  }
};

}  // namespace peft
