// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/multitask_prompt_tuning/config.hpp"
#include "peft/adapters/virtual_tokens.hpp"

namespace peft {

/// Multitask prompt tuning (Wang et al. 2023, arXiv:2303.02861): one prompt for all tasks, scaled by a low-rank matrix of each task's own.
///
///     P_t = P ∘ (cols[t] rows[t])          P (V, hidden), cols (tasks, V, ρ), rows (tasks, ρ, hidden);  t = Sequence::task
///
/// P_t stands in front of the embedded tokens. Of an encoder-decoder there are 2V rows: the first V in front of what the encoder reads, the last V
/// in front of what the decoder reads.
template <Scalar T>
struct MultitaskPrompt {
  static constexpr const char *file_prefix = "", *site_prefix = detail::prompt_site_prefix;
  PromptLayout layout;
  Parameter<T> prompt, cols, rows_of_tasks;
  /// (tasks · V, hidden)
  Variable<T> table() const {
    const Variable<T> factors = batched_matmul(cols.variable(), rows_of_tasks.variable());
    const std::vector<Variable<T>> same(std::size_t(cols.shape()[0]), prompt.variable());
    return multiply(reshape(factors, {cols.shape()[0] * cols.shape()[1], rows_of_tasks.shape()[2]}), concat_rows<T>(same));
  }
  void prepare(Pass<T>& pass, std::size_t list, int id) const { put_in_front(pass, list, id, table(), layout); }
  static void describe(auto& self, auto&& visit) {
    visit("prompt_embeddings", self.prompt);
    visit("prefix_task_cols", self.cols);
    visit("prefix_task_rows", self.rows_of_tasks);
  }
};

inline void complete(MultitaskPromptTuningConfig& config, const ModelInfo& info) { detail::complete_virtual_tokens(config, info); }
template <Scalar T>
MultitaskPrompt<T> shared_part(const MultitaskPromptTuningConfig& config, const ModelInfo& info, Random random) {
  MultitaskPrompt<T> prompt{detail::prompt_layout(config, info, true), {}, {}, {}};
  const std::int64_t V = prompt.layout.rows, d = config.token_dim, tasks = config.num_tasks, rank = config.num_ranks;
  prompt.prompt = drawn_normal<T>({V, d}, 0, 1, random);
  prompt.cols = drawn_normal<T>({tasks, V, rank}, 0, 0.02, random), prompt.rows_of_tasks = drawn_normal<T>({tasks, rank, d}, 0, 0.02, random);
  return prompt;
}
template <Scalar T>
bool attach_adapter(const MultitaskPromptTuningConfig&, MultitaskPrompt<T>& prompt, Embedding<T>& site, const AttachContext& context) {
  return attach_virtual_tokens(site, prompt.layout, context);
}

}  // namespace peft
