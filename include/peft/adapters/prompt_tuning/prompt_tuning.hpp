// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/prompt_tuning/config.hpp"
#include "peft/adapters/virtual_tokens.hpp"

namespace peft {

/// Prompt tuning (Lester et al. 2021, arXiv:2104.08691): V rows that train, in front of the embedded tokens.
///
///     [P (V, hidden); embedding(ids)] ── the model, frozen ──
///
/// RANDOM begins with N(0, 1); SAMPLE_VOCAB with rows of the embedding, which learns far better; TEXT with those of given tokens.
template <Scalar T>
struct SoftPrompt {
  static constexpr const char *file_prefix = "", *site_prefix = detail::prompt_site_prefix;
  std::string embedding;  // where it sits
  std::int64_t vocab_size = 0;
  Parameter<T> weight;  // (V, hidden)
  void prepare(Pass<T>& pass, std::size_t list, int id) const { put_in_front(pass, list, id, weight.variable(), 1, vocab_size); }
  void to_file(AdapterTensors& tensors) const { find_tensor(tensors, "prompt_encoder.embedding.weight")->name = "prompt_embeddings"; }
  void from_file(AdapterTensors& tensors) {
    if (AdapterTensor* t = find_tensor(tensors, "prompt_embeddings")) t->name = "prompt_encoder.embedding.weight";
  }
  static void describe(auto& self, auto&& visit) { visit("prompt_encoder.embedding.weight", self.weight); }
};

inline void complete(PromptTuningConfig& config, const ModelInfo& info) { detail::complete_virtual_tokens(config, info); }
template <Scalar T>
SoftPrompt<T> shared_part(const PromptTuningConfig& config, const ModelInfo& info, Random random) {
  return {info.embedding, info.vocab_size, drawn_normal<T>({config.num_virtual_tokens, config.token_dim}, 0, 1, random)};
}
template <Scalar T>
bool attach_adapter(const PromptTuningConfig& config, SoftPrompt<T>& prompt, Embedding<T>& site, const AttachContext& context) {
  if (!attach_virtual_tokens(site, prompt.embedding, prompt.vocab_size, context)) return false;
  Ids ids;
  Random random = context.at_site();
  for (std::int64_t i = 0; i < config.num_virtual_tokens; i++) {
    if (config.prompt_tuning_init == "SAMPLE_VOCAB")
      ids.push_back(std::int32_t(random.below(std::uint64_t(prompt.vocab_size))));
    else if (config.prompt_tuning_init == "TEXT" && !config.init_ids.empty())
      ids.push_back(std::int32_t(config.init_ids[std::size_t(i) % config.init_ids.size()]));
  }
  if (!ids.empty()) ops::embedding_forward<T>(prompt.weight.value().view(), ids, site.weight.view());
  return true;
}

}  // namespace peft
