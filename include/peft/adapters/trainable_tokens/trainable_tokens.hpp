// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/trainable_tokens/config.hpp"
#include "peft/adapters/trainable_tokens/token_rows.hpp"

namespace peft {

// The formula and the drawing are in token_rows.hpp: LoRA's trainable_token_indices is the same thing.

template <Scalar T>
struct TrainableTokens {
  std::string embedding, head;         // paths; a head that is not tied is ""
  std::vector<std::string> more = {};  // where PEFT has the embedding once more
  TokenRows<T> rows = {};
  static void describe(auto&, auto&&) {}  // visited where they sit, at both places if the head is tied

  static std::string in_file(const std::string& path) { return "base_model.model." + path + ".trainable_tokens_delta"; }
  void to_file(AdapterTensors& tensors) const {
    const AdapterTensor* own = find_tensor(tensors, in_file(embedding));
    if (!own) return;
    const AdapterTensor copy = *own;
    for (const std::string& path : more) tensors.push_back({in_file(path), copy.values, copy.dtype});
  }
  void from_file(AdapterTensors& tensors) const {
    for (const std::string& path : more) {
      const AdapterTensor *own = find_tensor(tensors, in_file(embedding)), *again = find_tensor(tensors, in_file(path));
      if (!own || !again) continue;
      if (!std::ranges::equal(own->values.span(), again->values.span()))
        throw CheckpointError("load_adapter", again->name + " differs from " + own->name + "; both are rows of one table");
      std::erase_if(tensors, [&](const AdapterTensor& t) { return t.name == in_file(path); });
    }
  }
};

inline void complete(TrainableTokensConfig& config, const ModelInfo& info) {
  if (config.target_modules.empty()) config.target_modules = TargetModules(info.embedding);
}
template <Scalar T>
TrainableTokens<T> shared_part(const TrainableTokensConfig&, const ModelInfo& info, Random) {
  TrainableTokens<T> tokens{info.embedding, info.head_is_tied ? info.head : ""};
  if (info.embedding == "shared") tokens.more = {"encoder.embed_tokens", "decoder.embed_tokens"};  // of T5
  return tokens;
}
template <Scalar T>
bool attach_adapter(const TrainableTokensConfig& config, TrainableTokens<T>& tokens, Embedding<T>& site, const AttachContext& context) {
  if (!targets(config, context.path, false)) return false;
  if (tokens.rows.rows) throw NotSupported("trainable_tokens.attach", "tokens of two embeddings; name one of them in target_modules");
  tokens.rows = make_token_rows("trainable_tokens.attach", site.weight, config.token_indices);
  if (!config.init_weights) {
    Random random = context.at_site();
    for (T& value : tokens.rows.rows.value().span()) value = T(random.normal());
  }
  site.adapters.attach(context.id, TokenEmbedding<T>{tokens.rows, "trainable_tokens_delta"});
  if (context.path != tokens.embedding) tokens.head.clear();
  return true;
}
template <Scalar T>
bool attach_adapter(const TrainableTokensConfig&, TrainableTokens<T>& tokens, Linear<T>& site, const AttachContext& context) {
  if (tokens.rows.rows && !tokens.head.empty() && context.path == tokens.head)
    site.adapters.attach(context.id, TokenHead<T>{tokens.rows, "trainable_tokens_delta"});
  return false;
}
template <Scalar T>
bool attachable(const TrainableTokensConfig&, const Embedding<T>&) {
  return true;
}

}  // namespace peft
