// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/prefix_tuning/config.hpp"
#include "peft/adapters/virtual_tokens.hpp"

namespace peft {

/// Prefix tuning (Li & Liang 2021, arXiv:2101.00190) and P-Tuning v2 (Liu et al. 2022, arXiv:2110.07602): keys and values of V tokens in front of
/// the first, in every layer.
///
///     E (V, 2 L d) ── or ── E (V, d) ── Linear ── tanh ── Linear ── P (V, 2 L d)
///     layer l:  keys P[:, 2l d …], values P[:, (2l+1) d …]  ahead of the sequence's own; d = key/value heads · head_dim
///
/// No rotary position is given to them; the first token stands at position V, in ChatGLM at position 0. A projection of ChatGLM2 and 3 begins with
/// E (V, 2 L d). A file of PEFT's has P alone: what is loaded trains without the projection.
template <Scalar T>
struct PrefixEncoder {
  static constexpr const char* file_prefix = "";
  std::int64_t num_layers = 0, width = 0;  // width: d
  bool moves_positions = true;
  Parameter<T> embedding;
  detail::EncoderLayer<T> inner, outer;  // of the projection; absent without one
  Parameter<T> table;                    // P itself, out of a file
  Derived<T> memo = {};

  /// P (V, 2 L d)
  Variable<T> prefix() const {
    if (table) return table.variable();
    if (!inner.weight) return embedding.variable();
    return memo({&embedding, &inner.weight, &inner.bias, &outer.weight, &outer.bias},
                [&] { return outer(activation(inner(embedding.variable()), Activation::tanh)); });
  }
  void prepare(Pass<T>& pass, std::size_t list, int) const {
    const std::size_t lists = std::max(list + 1, pass.lists ? pass.lists->size() : 0);
    pass.past.resize(lists), pass.fronts.resize(lists);
    if (pass.past[list]) throw AdapterError("forward", "two active adapters both have a prefix; deactivate one of them");
    const Variable<T> P = prefix();
    auto past = std::make_shared<PastKeyValues<T>>();
    for (std::int64_t l = 0; l < num_layers; l++) {
      past->k.push_back(columns(P, 2 * l * width, (2 * l + 1) * width));
      past->v.push_back(columns(P, (2 * l + 1) * width, (2 * l + 2) * width));
    }
    pass.past[list] = std::move(past), pass.fronts[list].past = P.rows(), pass.fronts[list].positions = moves_positions ? P.rows() : 0;
  }
  void to_file(AdapterTensors& tensors) const {
    const NoGrad guard;
    detail::replace_by_table(tensors, prefix().value());
  }
  void from_file(AdapterTensors&) {
    table = Parameter<T>(Tensor<T>::zeros({embedding.shape()[0], 2 * num_layers * width}), true);
    embedding = {}, inner = {}, outer = {};
  }
  static void describe(auto& self, auto&& visit) {
    visit("prompt_encoder.embedding.weight", self.embedding);
    visit("prompt_encoder.transform.0", self.inner);
    visit("prompt_encoder.transform.2", self.outer);
    visit("prompt_embeddings", self.table);
  }
};

inline void complete(PrefixTuningConfig& config, const ModelInfo& info) {
  detail::complete_prompt(config, info, info.num_key_value_heads * info.head_dim, info.num_key_value_heads);
  if (config.encoder_hidden_size == 0) config.encoder_hidden_size = info.prefix.wide_projection ? info.hidden_size : config.token_dim;
}
template <Scalar T>
PrefixEncoder<T> shared_part(const PrefixTuningConfig& config, const ModelInfo& info, Random random) {
  const std::int64_t V = config.num_virtual_tokens, d = config.token_dim, all = 2 * config.num_layers * d;
  const std::int64_t embedded = config.prefix_projection && !info.prefix.wide_projection ? d : all;
  PrefixEncoder<T> encoder;
  encoder.num_layers = config.num_layers, encoder.width = d, encoder.moves_positions = info.prefix.moves_positions;
  encoder.embedding = drawn_normal<T>({V, embedded}, 0, 1, random);
  if (config.prefix_projection) {
    encoder.inner = {embedded, config.encoder_hidden_size, random};
    encoder.outer = {config.encoder_hidden_size, all, random};
  }
  if (config.init_weights)  // "zero"
    for (const Parameter<T>& p : config.prefix_projection ? std::vector{encoder.outer.weight, encoder.outer.bias} : std::vector{encoder.embedding})
      p.value().fill(T(0));
  return encoder;
}

}  // namespace peft
