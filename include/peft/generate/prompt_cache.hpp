// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "peft/generate/language_model.hpp"

namespace peft {

/// The beginning of prompts, read once: whoever continues it reads its keys and values where they lie (GenerationRequest::prefix). What is generated is
/// the same to the bit.
template <Scalar T>
struct PromptCache {
  std::vector<std::int32_t> ids;
  KvCache<T> cache;  // of all of them
};

/// Reads `ids` as list `active` sees them. The whole is kept, so that any beginning of it serves; without `whole`, of layers with a window what
/// follows the last id sees. Throws ShapeError as generation does.
template <Scalar T>
PromptCache<T> remember_prompt(LanguageModel<T>& model, std::span<const std::int32_t> ids, int active = 0, bool whole = true);

/// Writes it as safetensors: "ids", and for each layer "layers.i.k" and "layers.i.v"; atomic.
template <Scalar T>
void save_prompt_cache(const std::string& path, const PromptCache<T>& prompt);

/// Reads such a file. It belongs to one model with certain active adapters, and its first keys and values are the fingerprint: those of the first
/// tokens (16 at most) are computed anew and compared. Throws FormatError for a file that is none or broken, CheckpointError for one that another
/// model, or another adapter, has made.
template <Scalar T>
PromptCache<T> load_prompt_cache(LanguageModel<T>& model, const std::string& path, int active = 0);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/prompt_cache.inl"
#endif
