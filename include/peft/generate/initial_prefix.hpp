// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "peft/adapters/prefix_tuning/prefix_tuning.hpp"
#include "peft/generate/language_model.hpp"

namespace peft {

/// Lets a prefix begin as a text: as the keys and values that the model without adapters has of the first V of `ids`, so that what follows reads them
/// as it would read the text (PEFT's initialize_kv_prefix_from_text). A run that starts there starts no worse than the text as a prompt. Throws
/// ConfigError for an adapter that is no prefix, for one whose keys come out of a projection, and for fewer than V ids; NotSupported for an
/// encoder-decoder, whose prefix stands in front of the decoder.
template <Scalar T>
void initialize_prefix_from_text(PeftModel<Transformer<T>>& model, const std::string& name, std::span<const std::int32_t> ids) {
  const char* const operation = "initialize_prefix_from_text";
  const auto* config = std::any_cast<PrefixTuningConfig>(&model.entry(name).config);
  if (!config) throw ConfigError(operation, "adapter \"" + name + "\" is of the type " + model.entry(name).peft_type + "; PREFIX_TUNING is wanted");
  Parameter<T> table;
  bool projected = false;
  model.for_each_adapter_parameter(name, [&](const std::string& path, Parameter<T>& parameter) {
    projected = projected || path.find("transform") != std::string::npos;
    if (path == "prompt_encoder.embedding.weight" || path == "prompt_embeddings") table = parameter;
  });
  if (projected) throw ConfigError(operation, "prefix_projection is true; keys and values can be set only where they are what trains: false");
  LanguageModel<T> base(model, std::vector<Active>(1));
  if (base.has_encoder()) throw NotSupported(operation, "a model of type \"" + base.config().model_type + "\", an encoder-decoder");
  const std::int64_t V = table.shape()[0], width = table.shape()[1] / (2 * base.config().num_hidden_layers);
  if (std::int64_t(ids.size()) < V)
    throw ConfigError(operation,
                      "a text of " + std::to_string(ids.size()) + " tokens; num_virtual_tokens is " + std::to_string(V) + ", and so many are wanted");
  KvCache<T> cache = base.make_cache(V, 0, true);
  const typename LanguageModel<T>::Continuation text{&cache, ids.first(std::size_t(V)), 0};
  base.prefill(std::span(&text, 1));
  const View<T> to = table.value().view();
  for (std::int64_t l = 0; l < cache.layers(); l++) {
    const Tensor<T> keys = cache.keys(l, V), values = cache.values(l, V);
    for (std::int64_t v = 0; v < V; v++) {
      std::copy_n(keys.view().row(v), width, to.row(v) + 2 * l * width);
      std::copy_n(values.view().row(v), width, to.row(v) + (2 * l + 1) * width);
    }
  }
  table.touch();
}

}  // namespace peft
