// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/prompt_tuning/config.hpp"
#include "peft/adapters/virtual_tokens.hpp"

namespace peft {

/// Prompt tuning (Lester et al. 2021, arXiv:2104.08691): V rows that train, in front of the embedded tokens.
///
///     [P (V, hidden); embedding(ids)] ── the model, frozen ──
///
/// Of an encoder-decoder it stands in front of what the encoder reads; there are 2V rows in PEFT's file, the last V of which nothing reads.
/// RANDOM begins with N(0, 1); SAMPLE_VOCAB with rows of the embedding, which learns far better; TEXT with those of given tokens.
template <Scalar T>
struct SoftPrompt {
  static constexpr const char *file_prefix = "", *site_prefix = detail::prompt_site_prefix;
  PromptLayout layout;
  Parameter<T> weight;  // (V, hidden); of an encoder-decoder (2V, hidden)
  void prepare(Pass<T>& pass, std::size_t list, int id) const { put_in_front(pass, list, id, weight.variable(), layout); }
  void to_file(AdapterTensors& tensors) const { find_tensor(tensors, "prompt_encoder.embedding.weight")->name = "prompt_embeddings"; }
  void from_file(AdapterTensors& tensors) {
    if (AdapterTensor* t = find_tensor(tensors, "prompt_embeddings")) t->name = "prompt_encoder.embedding.weight";
  }
  static void describe(auto& self, auto&& visit) { visit("prompt_encoder.embedding.weight", self.weight); }
};

inline void complete(PromptTuningConfig& config, const ModelInfo& info) { detail::complete_virtual_tokens(config, info); }
template <Scalar T>
SoftPrompt<T> shared_part(const PromptTuningConfig& config, const ModelInfo& info, Random random) {
  PromptLayout layout = detail::prompt_layout(config, info);
  Parameter<T> weight = drawn_normal<T>({layout.rows, config.token_dim}, 0, 1, random);
  return {std::move(layout), std::move(weight)};
}
template <Scalar T>
bool attach_adapter(const PromptTuningConfig& config, SoftPrompt<T>& prompt, Embedding<T>& site, const AttachContext& context) {
  if (!attach_virtual_tokens(site, prompt.layout, context)) return false;
  if (LeaveUnfilled::on()) return true;
  if (config.prompt_tuning_init == "TEXT" && config.init_ids.empty())
    throw ConfigError("prompt_tuning.attach", "prompt_tuning_init \"TEXT\" without init_ids, the tokens of prompt_tuning_init_text");
  Ids ids;
  Random random = context.at_site();
  for (std::int64_t i = 0; i < prompt.layout.rows; i++) {
    if (config.prompt_tuning_init == "SAMPLE_VOCAB")
      ids.push_back(std::int32_t(random.below(std::uint64_t(prompt.layout.vocab_size))));
    else if (config.prompt_tuning_init == "TEXT")
      ids.push_back(std::int32_t(config.init_ids[std::size_t(i) % config.init_ids.size()]));
  }
  if (!ids.empty()) ops::embedding_forward<T>(prompt.weight.value().view(), ids, site.weight.view());
  return true;
}

}  // namespace peft
