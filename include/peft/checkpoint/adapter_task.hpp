// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "peft/checkpoint/load.hpp"
#include "peft/nn/transformer.hpp"

namespace peft {

/// What the base of the adapter at `path` is to be opened as, so that a head that the adapter has along finds its place:
///
///     const auto model = load_model<float>(base, adapter_task(path));
///
/// task_type says the task, DIR/labels.json the names of the classes, or else the head's own rows their number. Nothing in particular (the task that
/// the base's file says) for language models, GGUF files, and adapters that have no head along. Throws FormatError for files that are broken.
ModelTask adapter_task(const std::string& path);

/// Writes DIR/labels.json for a head that classifies: id2label, label2id and problem_type as config.json has them. PEFT's format has no place for these;
/// save_adapter calls it.
void save_labels(const HeadConfig& head, const std::string& directory);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/adapter_task.inl"
#endif
