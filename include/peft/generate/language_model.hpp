// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "peft/adapters/peft_model.hpp"
#include "peft/nn/transformer.hpp"
#include "peft/ops/gemm.hpp"

namespace peft {

/// A decoder as generation sees it: the transformer, and the pass that each of its forwards starts from (who is active). A view: the model
/// outlives it. One thread uses it at a time; several may each have their own on one model. Of an encoder-decoder it is the decoder, whose caches
/// know what is decoded from: read_sources makes that.
template <Scalar T>
class LanguageModel {
 public:
  /// Throws ConfigError for a model that predicts no next token: an encoder alone, a classifier.
  explicit LanguageModel(const Transformer<T>& model) : model_(&model) { check(); }
  explicit LanguageModel(const PeftModel<Transformer<T>>& model) : model_(&model.model()), pass_(model.pass()) { check(); }
  /// With several active lists, of which every sequence names one.
  LanguageModel(const PeftModel<Transformer<T>>& model, std::vector<Active> lists)
      : model_(&model.model()), pass_(model.pass(nullptr, false, std::make_shared<const std::vector<Active>>(std::move(lists)))) {
    check();
  }

  const TransformerConfig& config() const { return model_->config; }
  bool has_encoder() const { return config().num_encoder_layers > 0; }
  /// Tokens that a sequence may have behind its front; unlimited if the model does not say, or knows distances only.
  std::int64_t context_length() const;
  /// The adapters that are active on sequences of list `active`.
  const Active& active(int active) const;

  /// What stands in front of sequences of list `active`.
  Front front(int active) const;

  /// Which ids above the vocabulary a prompt may have: virtual tokens that list `active` places within texts, of an encoder-decoder within its sources.
  std::int64_t placed_tokens(int active) const;

  /// Throws ConfigError for a text without any of the virtual tokens that the adapter of list `active` finds within its texts.
  void check_placed(std::span<const std::int32_t> ids, int active) const;

  /// An empty cache with room for `capacity` tokens; it grows where more come. A layer with a window forgets what has left it, unless the `whole`
  /// is wanted.
  KvCache<T> make_cache(std::int64_t capacity, int active = 0, bool whole = false) const;
  /// A cache that holds what `from` holds and has room for `capacity` tokens more. `from` must not change while it is continued: nothing is copied,
  /// unless `from` continues another one itself or stores another type.
  KvCache<T> continue_cache(std::shared_ptr<const KvCache<T>> from, std::int64_t capacity, int active = 0) const;
  /// What caches made from now on store: T's own type, or F16 for half the memory.
  void set_cache_dtype(DType dtype) { cache_dtype_ = dtype; }

  /// What an encoder-decoder decodes from.
  struct Source {
    std::span<const std::int32_t> ids;
    int active = 0;  // which of the pass's active lists
  };
  /// Runs the encoder over each, several packed together, and the decoder's cross-attention over what comes out: its keys and values, for
  /// KvCache::source. Throws ConfigError for a model without an encoder, ShapeError for a source that is empty or has unknown ids.
  std::vector<std::shared_ptr<const KvCache<T>>> read_sources(std::span<const Source> sources);

  /// One sequence of a forward: `ids` continue what the cache holds.
  struct Continuation {
    KvCache<T>* cache = nullptr;
    std::span<const std::int32_t> ids;
    int active = 0;  // which of the pass's active lists
  };
  /// Runs all of them packed, without padding, and appends to their caches. (N, hidden): each row behind the last norm. Ids must be of the
  /// vocabulary, or placed virtual tokens. Throws Error for a cache that another active list has made, NotSupported for an encoder-decoder's that has no
  /// source. Prefill runs with Kernel::panel, steps of decoding with Kernel::dot.
  Tensor<T> hidden_states(std::span<const Continuation> all, ops::Kernel kernel);
  /// hidden_states, then the logits of each sequence's last row: (sequences, vocab).
  Tensor<T> last_logits(std::span<const Continuation> all, ops::Kernel kernel);
  /// Logits of rows of hidden states, row i belonging to a sequence of list active[i]; (N, vocab).
  Tensor<T> logits(const Tensor<T>& hidden, std::span<const int> active, ops::Kernel kernel);

  /// Fills caches from prompts of any length, in pieces of at most a few hundred rows, so that memory does not grow with the prompt; the
  /// logits of each prompt's last row: (sequences, vocab).
  Tensor<T> prefill(std::span<const Continuation> prompts) { return prefill(prompts, nullptr); }
  /// The same, and every row's hidden state (rows of all, hidden) into *hidden.
  Tensor<T> prefill(std::span<const Continuation> prompts, Tensor<T>* hidden);

 private:
  using Ids = std::vector<std::int32_t, PoolAllocator<std::int32_t>>;
  void check() {
    for (const Block<T>& block : model_->layers) windows_.push_back(block.self_attn.core.shape.window);
    if (std::all_of(windows_.begin(), windows_.end(), [](std::int64_t window) { return window == 0; })) windows_.clear();
    if ((config().head.task != TaskType::causal_lm && config().head.task != TaskType::seq_2_seq_lm) || !config().attention.causal)
      throw ConfigError("generate",
                        "a model of type \"" + config().model_type + "\" that predicts no next token; a causal language model or an encoder-decoder is wanted");
  }
  /// Throws ShapeError for a sequence without ids, or with some beyond the vocabulary and `placed` virtual tokens.
  void check_ids(std::span<const std::int32_t> ids, std::int64_t placed) const;
  const Transformer<T>* model_;
  Pass<T> pass_;
  DType cache_dtype_ = dtype_of<T>;
  std::vector<std::int64_t> windows_;  // of the layers; none if all see everything
  Ids ids_;                            // of the current forward,
  std::vector<int> last_active_;       // and of its last rows
};

/// The active lists of adapters by their names, each different one once; list_of[i] is the number of names[i]'s. Throws AdapterError for a name
/// that there is not.
template <class M>
std::vector<Active> active_lists(const PeftModel<M>& model, const std::vector<std::vector<std::string>>& names, std::vector<int>& list_of) {
  std::vector<Active> lists;
  list_of.clear();
  for (const auto& of_one : names) {
    Active list;
    for (const std::string& name : of_one) list.push_back(model.entry(name).id);
    const auto found = std::find(lists.begin(), lists.end(), list);
    list_of.push_back(int(found - lists.begin()));
    if (found == lists.end()) lists.push_back(std::move(list));
  }
  if (lists.empty()) lists.emplace_back();
  return lists;
}

/// How many ids two sequences share from the start.
std::int64_t common_prefix(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

namespace detail {
template <class M>
struct LanguageModelScalar {};
template <Scalar T>
struct LanguageModelScalar<Transformer<T>> {
  using type = T;
};
template <Scalar T>
struct LanguageModelScalar<PeftModel<Transformer<T>>> {
  using type = T;
};
template <class M>
inline constexpr bool is_language_model = requires {
  typename LanguageModelScalar<M>::type;
};
}  // namespace detail

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/language_model.inl"
#endif
