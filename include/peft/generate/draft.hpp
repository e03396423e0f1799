// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "peft/generate/constraint.hpp"
#include "peft/generate/language_model.hpp"
#include "peft/generate/logits_processor.hpp"
#include "peft/generate/prompt_cache.hpp"
#include "peft/generate/sampler.hpp"

namespace peft::detail {

/// Tokens that followed the last tokens of `ids` when these stood there before: at most n, behind the first place where the longest n-gram of up to
/// max_ngram tokens was (Saxena 2023, prompt lookup decoding).
std::vector<std::int32_t> look_up(std::span<const std::int32_t> ids, std::size_t n, std::int64_t max_ngram);

/// A sequence that wants a proposal.
template <Scalar T>
struct DraftRequest {
  std::size_t key;  // which sequence: its cache stays from one proposal to the next
  const std::vector<std::int32_t>* ids;
  std::int64_t prompt_length, limit;
  TokenConstraint::State state;
  const SequenceRandom* random;
  std::size_t most;  // tokens
  std::vector<std::int32_t>* proposal;
  std::span<const std::int32_t> source;  // the prompt, or what an encoder reads
  PromptCache<T>* past;                  // what was read of the sequence so far, where the caller keeps it; null: kept here
};

/// A smaller model that guesses what the large one will choose. Both see the same random numbers, and the same processors, so that its guess is
/// right where their distributions are alike; the large one chooses for itself, so that the text is its own.
template <Scalar T>
class DraftModel {
 public:
  DraftModel(LanguageModel<T>& model, const GenerationConfig& config, const LogitsProcessors& processors, std::span<const std::int32_t> eos)
      : model_(model), config_(config), processors_(processors), eos_(eos) {}
  void propose(std::span<const DraftRequest<T>> requests);
  /// A sequence that has ended.
  void forget(std::size_t key) { pasts_.erase(key); }

 private:
  LanguageModel<T>& model_;
  const GenerationConfig& config_;
  const LogitsProcessors& processors_;
  std::span<const std::int32_t> eos_;
  std::map<std::size_t, PromptCache<T>> pasts_;
};

}  // namespace peft::detail

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/draft.inl"
#endif
