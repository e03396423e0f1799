// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/checkpoint.hpp"
#include "peft/nn/attention.hpp"
#include "peft/nn/mlp.hpp"

namespace peft {

/// h + y, where a sublayer meets the residual stream: a site for adapters that sit behind it. Post-norm models normalise the sum here.
template <Scalar T>
struct ResidualJoin {
  using Scalar_ = T;
  struct Input {
    Variable<T> residual, y;
  };
  using Output = Variable<T>;
  std::optional<Norm<T>> norm{};
  std::string path{};
  AdapterSlot<ResidualJoin> adapters{};

  Variable<T> forward(const Input& in) const { return normalized(add(in.residual, in.y)); }
  /// Without an adapter the sum is formed in place.
  Variable<T> operator()(Variable<T> residual, Variable<T> y) const {
    if (adapters.empty()) return normalized(add(std::move(y), residual));
    return adapters(*this, Input{std::move(residual), std::move(y)});
  }
  ResidualJoin dense() const { throw AdapterError("merge", "an adapter on a residual join has no weight to be merged into"); }
  static Input rows(const Input& in, std::int64_t begin, std::int64_t end) { return {peft::rows(in.residual, begin, end), peft::rows(in.y, begin, end)}; }
  static void describe(auto& self, auto&& visit) {
    if (self.norm) visit("norm", *self.norm);
  }

 private:
  Variable<T> normalized(Variable<T> sum) const { return norm ? (*norm)(sum) : std::move(sum); }
};

/// One layer:  h ← h + attention(norm h);  h ← h + mlp(norm h).  Where the norms stand is which of them are there: in front of each sublayer
/// (most decoders), in front and behind it (GLM-4), or behind the join (BERT). parallel: both sublayers read the same h (GPT-NeoX). normed_residual α:
/// what goes on is  α norm h + f(norm h)  (ChatGLM-6B). The decoder of an encoder-decoder has between the two  h ← h + cross_attention(norm h, source).
template <Scalar T>
struct Block {
  std::optional<Norm<T>> input_layernorm;
  Attention<T> self_attn;
  std::optional<Norm<T>> post_self_attn_layernorm;
  ResidualJoin<T> attention_join;
  std::optional<Norm<T>> cross_attn_layernorm;
  std::optional<Attention<T>> cross_attn;
  std::optional<ResidualJoin<T>> cross_attention_join;
  std::optional<Norm<T>> post_attention_layernorm;  // in front of the MLP; Llama's name for it
  Mlp<T> mlp;
  std::optional<Norm<T>> post_mlp_layernorm;
  ResidualJoin<T> mlp_join;
  bool parallel = false;
  T normed_residual = 0;  // 0: the residual is h itself

  Variable<T> operator()(Variable<T> h) const {
    if (normed_residual != 0) {
      Variable<T> x = (*input_layernorm)(h), y = self_attn(x);
      x = (*post_attention_layernorm)(attention_join(scale(x, normed_residual), std::move(y)));
      y = mlp(x);
      return mlp_join(scale(x, normed_residual), std::move(y));
    }
    Variable<T> y = self_attn(input_layernorm ? (*input_layernorm)(h) : h);
    if (post_self_attn_layernorm) y = (*post_self_attn_layernorm)(y);
    if (parallel) {
      Variable<T> z = mlp(post_attention_layernorm ? (*post_attention_layernorm)(h) : h);
      return mlp_join(attention_join(std::move(h), std::move(y)), std::move(z));
    }
    h = attention_join(std::move(h), std::move(y));
    if (cross_attn) {
      y = (*cross_attn)(cross_attn_layernorm ? (*cross_attn_layernorm)(h) : h);
      h = (*cross_attention_join)(std::move(h), std::move(y));
    }
    y = mlp(post_attention_layernorm ? (*post_attention_layernorm)(h) : h);
    if (post_mlp_layernorm) y = (*post_mlp_layernorm)(y);
    return mlp_join(std::move(h), std::move(y));
  }
  static void describe(auto& self, auto&& visit) {
    if (self.input_layernorm) visit("input_layernorm", *self.input_layernorm);
    visit("self_attn", self.self_attn);
    if (self.post_self_attn_layernorm) visit("post_self_attn_layernorm", *self.post_self_attn_layernorm);
    visit("attention_join", self.attention_join);
    if (self.cross_attn) {
      if (self.cross_attn_layernorm) visit("cross_attn_layernorm", *self.cross_attn_layernorm);
      visit("cross_attn", *self.cross_attn);
      visit("cross_attention_join", *self.cross_attention_join);
    }
    if (self.post_attention_layernorm) visit("post_attention_layernorm", *self.post_attention_layernorm);
    visit("mlp", self.mlp);
    if (self.post_mlp_layernorm) visit("post_mlp_layernorm", *self.post_mlp_layernorm);
    visit("mlp_join", self.mlp_join);
  }
};

}  // namespace peft
