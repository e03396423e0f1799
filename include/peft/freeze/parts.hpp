// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <set>
#include <string>

#include "peft/freeze/policy.hpp"
#include "peft/nn/transformer.hpp"

namespace peft {

/// Trains the parameters at these paths: the parts of a transformer that its own members tell apart, whatever its files call them.
struct Paths {
  using is_freezing_policy = void;
  std::set<std::string> paths;
  bool operator()(const ParameterInfo& info) const { return info.adapter.empty() && paths.contains(info.path); }
};

namespace detail {
template <Scalar T, class... Parts>
Paths paths_within(const Transformer<T>& model, const Parts&... parts) {
  std::set<const void*> there;
  (for_each_parameter(parts, [&](const std::string&, const Parameter<T>& parameter) { there.insert(&parameter); }), ...);
  Paths found;
  for_each_parameter(model, [&](const std::string& path, const Parameter<T>& parameter) {
    if (there.contains(&parameter)) found.paths.insert(path);
  });
  return found;
}
}  // namespace detail

/// Blocks, those of an encoder counted before its decoder's.
template <Scalar T>
std::int64_t num_layers(const Transformer<T>& model) {
  return std::int64_t(model.encoder_layers.size() + model.layers.size());
}
/// The blocks `first` … `end` − 1 in the order in which they run. Throws ConfigError if there are none such.
template <Scalar T>
Paths layers_of(const Transformer<T>& model, std::int64_t first, std::int64_t end) {
  if (first < 0 || first > end || end > num_layers(model))
    throw ConfigError("layers_of",
                      "layers " + std::to_string(first) + " to " + std::to_string(end) + " of a model that has " + std::to_string(num_layers(model)));
  Paths all;
  const auto encoders = std::int64_t(model.encoder_layers.size());
  for (std::int64_t i = first; i < end; i++) {
    const Block<T>& block = i < encoders ? model.encoder_layers[std::size_t(i)] : model.layers[std::size_t(i - encoders)];
    all.paths.merge(detail::paths_within(model, block).paths);
  }
  return all;
}
/// Word vectors, learned positions and segments, and the norm behind their sum. A head that shares the word vectors trains along.
template <Scalar T>
Paths embeddings_of(const Transformer<T>& model) {
  Paths all = detail::paths_within(model, model.embed_tokens);
  const auto also = [&](const auto& part) {
    if (part) all.paths.merge(detail::paths_within(model, *part).paths);
  };
  also(model.embed_positions), also(model.embed_token_types), also(model.embedding_norm);
  return all;
}
/// Everything of the norms, biases included.
template <Scalar T>
Paths norms_of(const Transformer<T>& model) {
  Paths all;
  for_each_site(model, [&]<class S>(const std::string&, const S& site) {
    if constexpr (std::same_as<std::remove_const_t<S>, Norm<T>>) all.paths.merge(detail::paths_within(model, site).paths);
  });
  return all;
}
/// What makes logits out of hidden states: of a tied head, the word vectors.
template <Scalar T>
Paths head_of(const Transformer<T>& model) {
  Paths all = detail::paths_within(model, model.lm_head);
  if (model.head_transform) all.paths.merge(detail::paths_within(model, *model.head_transform).paths);
  return all;
}

}  // namespace peft
