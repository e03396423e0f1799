// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>

#include "peft/models/config.hpp"

namespace peft {

/// A tensor of a file, still where it lies there.
struct StoredTensor {
  ops::WeightView view;  // (out, in), whatever the file does
  Shape shape;
  std::shared_ptr<const void> keep;
};

/// What a model is to do, where that is not what its file says: another of PEFT's task types. A head that the file lacks is drawn by `seed`, as
/// transformers does: weights N(0, initializer_range²), biases 0.
struct ModelTask {
  std::optional<TaskType> task = {};
  std::int64_t num_labels = 2;  // of seq_cls and token_cls
  std::optional<ProblemType> problem = {};
  std::uint64_t seed = 0;
  std::vector<std::string> label_names = {};  // of classes, and so their number; none: as the file has them
};

/// What a model file offers: its configuration in our terms, and tensors by their Hugging Face name ("model.norm.weight").
struct ModelFile {
  std::string path;
  TransformerConfig config;
  const Architecture* architecture = nullptr;
  std::function<std::optional<StoredTensor>(const std::string& name)> find;
  std::int64_t bytes = 0;                   // of all tensors as they are stored
  std::string storage;                      // what most of them are stored as, "Q4_1"
  std::optional<std::uint64_t> fresh_head;  // a head that is not there is drawn by this seed
  double initializer_range = 0.02;
};

/// Opens a Hugging Face directory (config.json; model.safetensors, or shards with their index), a GGUF file, or a directory that holds just one of these.
/// Nothing is read but headers; throws FormatError for broken files, and for configurations that say something impossible or unknown, naming key and value.
/// A task of the caller's: Hugging Face directories only.
ModelFile open_model(const std::string& path, const ModelTask& task = {});

/// Builds the model of such a file; frozen weights stay mapped, in their storage type. Throws CheckpointError with every missing and misshapen
/// tensor.
template <Scalar T>
Transformer<T> build_model(const ModelFile& file);

/// open_model and build_model.
template <Scalar T>
Transformer<T> load_model(const std::string& path, const ModelTask& task = {}) {
  return build_model<T>(open_model(path, task));
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/load.inl"
#endif
