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
///
/// Of an encoder-decoder the decoder's self-attention has the prefix. PEFT writes P's pairs twice, one behind the other, for self- and cross-attention, and
/// gives the latter up: decoder layer l reads pair 2l mod L. With an even L every other pair is read twice and the rest never.
template <Scalar T>
struct PrefixEncoder {
  static constexpr const char *file_prefix = "", *site_prefix = detail::prompt_site_prefix;
  std::int64_t num_layers = 0, width = 0;  // L, d
  std::vector<std::int64_t> pairs;         // which of P's pairs each layer reads
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
    for (const std::int64_t pair : pairs) {
      past->k.push_back(columns(P, 2 * pair * width, (2 * pair + 1) * width));
      past->v.push_back(columns(P, (2 * pair + 1) * width, (2 * pair + 2) * width));
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
  std::int64_t layers = info.num_layers;
  if (info.num_encoder_layers > 0) {  // PEFT's default is the encoder's number, with which a deeper decoder does not run there
    layers = config.num_layers != 0 ? config.num_layers : std::max(info.num_encoder_layers, info.num_layers);
    if (layers < info.num_layers || layers > 4096)
      throw ConfigError(PrefixTuningConfig::peft_type,
                        "num_layers is " + std::to_string(layers) + "; allowed are " + std::to_string(info.num_layers) + ", the decoder's, to 4096");
  }
  detail::complete_prompt(config, info, info.num_key_value_heads * info.head_dim, info.num_key_value_heads, layers);
  if (info.num_encoder_layers > 0 && config.num_transformer_submodules != 2)
    throw NotSupported(PrefixTuningConfig::peft_type,
                       "num_transformer_submodules is 1 for a model of type \"" + info.model_type + "\", an encoder-decoder; only 2 is supported");
  if (config.encoder_hidden_size == 0) config.encoder_hidden_size = info.prefix.wide_projection ? info.hidden_size : config.token_dim;
}
template <Scalar T>
PrefixEncoder<T> shared_part(const PrefixTuningConfig& config, const ModelInfo& info, Random random) {
  const std::int64_t V = config.num_virtual_tokens, d = config.token_dim, all = 2 * config.num_layers * d;
  const std::int64_t embedded = config.prefix_projection && !info.prefix.wide_projection ? d : all;
  PrefixEncoder<T> encoder;
  encoder.num_layers = config.num_layers, encoder.width = d, encoder.moves_positions = info.prefix.moves_positions;
  for (std::int64_t l = 0; l < info.num_layers; l++) encoder.pairs.push_back(config.num_transformer_submodules * l % config.num_layers);
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
