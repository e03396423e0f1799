// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/checkpoint.hpp"
#include "peft/nn/attention.hpp"
#include "peft/nn/mlp.hpp"

namespace peft {

/// h + y, where a sublayer meets the residual stream: a site for adapters that sit behind it.
template <Scalar T>
struct ResidualJoin {
  using Scalar_ = T;
  struct Input {
    Variable<T> residual, y;
  };
  using Output = Variable<T>;
  std::string path{};
  AdapterSlot<ResidualJoin> adapters{};

  Variable<T> forward(const Input& in) const { return add(in.residual, in.y); }
  /// Without an adapter the sum is formed in place.
  Variable<T> operator()(Variable<T> residual, Variable<T> y) const {
    if (adapters.empty()) return add(std::move(y), residual);
    return adapters(*this, Input{std::move(residual), std::move(y)});
  }
  ResidualJoin dense() const { throw AdapterError("merge", "an adapter on a residual join has no weight to be merged into"); }
  static Input rows(const Input& in, std::int64_t begin, std::int64_t end) { return {peft::rows(in.residual, begin, end), peft::rows(in.y, begin, end)}; }
  static void describe(auto&, auto&&) {}
};

/// One layer with its norms in front:  h ← h + attention(norm h);  h ← h + mlp(norm h)
template <Scalar T>
struct Block {
  Norm<T> input_layernorm;
  Attention<T> self_attn;
  ResidualJoin<T> attention_join;
  Norm<T> post_attention_layernorm;
  Mlp<T> mlp;
  ResidualJoin<T> mlp_join;

  Variable<T> operator()(Variable<T> h) const {
    Variable<T> y = self_attn(input_layernorm(h));
    h = attention_join(std::move(h), std::move(y));
    y = mlp(post_attention_layernorm(h));
    return mlp_join(std::move(h), std::move(y));
  }
  static void describe(auto& self, auto&& visit) {
    visit("input_layernorm", self.input_layernorm);
    visit("self_attn", self.self_attn);
    visit("attention_join", self.attention_join);
    visit("post_attention_layernorm", self.post_attention_layernorm);
    visit("mlp", self.mlp);
    visit("mlp_join", self.mlp_join);
  }
};

}  // namespace peft
