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
  bool mapped = false;  // in a mapped file
};

/// What a model is to do, where that is not what its file says: another of PEFT's task types. A head that the file lacks is drawn by `seed`, as
/// transformers does: weights N(0, initializer_range²), biases 0.
struct ModelTask {
  std::optional<TaskType> task = {};
  std::int64_t num_labels = 2;  // of seq_cls and token_cls
  std::optional<ProblemType> problem = {};
  std::uint64_t seed = 0;
  std::vector<std::string> label_names = {};  // of classes, and so their number; none: as the file has them
  bool without_prefix = false;                // the base of a file that has a prefix of its own (ChatGLM's pre_seq_len), which load_adapter takes from there
};

/// How a model is to lie in memory, where that is not as in its file.
struct LoadOptions {
  /// NF4 (QLoRA), Q8_0, Q4_0, Q4_1, Q5_0 or Q5_1: the Linears of the layers are written in this type while they are read, one at a time, and the file's own
  /// are given back. Embeddings, head, norms and biases stay as they are, and so does a Linear whose rows are not whole blocks.
  std::optional<DType> quantize = {};
};

/// What a model file offers: its configuration in our terms, and tensors by their Hugging Face name ("model.norm.weight").
struct ModelFile {
  std::string path;
  TransformerConfig config;
  const Architecture* architecture = nullptr;
  std::function<std::optional<StoredTensor>(const std::string& name)> find;
  std::int64_t bytes = 0;                   // of all tensors as they are stored
  std::string storage;                      // what most of them are stored as, "Q4_1"
  std::optional<std::uint64_t> fresh_head;  // a head that is not there is drawn by this seed,
  std::optional<std::uint64_t> fresh;       // and every tensor that is not there by this one
  double initializer_range = 0.02;
};

/// Opens a Hugging Face directory (config.json; model.safetensors, or shards with their index), a GGUF file, or a directory that holds just one of these.
/// Nothing is read but headers; throws FormatError for broken files, and for configurations that say something impossible or unknown, naming key and value.
/// A task of the caller's: Hugging Face directories only.
ModelFile open_model(const std::string& path, const ModelTask& task = {});

/// A model that no file has yet: `config` is the text of its config.json, and its tensors are drawn by `seed`: matrices N(0, initializer_range²), norms 1,
/// biases 0. Throws ConfigError as open_model does.
ModelFile fresh_model(const std::string& config, std::uint64_t seed = 0);

/// Builds the model of such a file; frozen weights stay mapped, in their storage type. Throws CheckpointError with every missing and misshapen
/// tensor, and ConfigError for a type to quantise to that is not one, or that no Linear can have; what is quantised already is not quantised again.
template <Scalar T>
Transformer<T> build_model(const ModelFile& file, const LoadOptions& options = {});

/// open_model and build_model.
template <Scalar T>
Transformer<T> load_model(const std::string& path, const ModelTask& task = {}, const LoadOptions& options = {}) {
  return build_model<T>(open_model(path, task), options);
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/load.inl"
#endif
