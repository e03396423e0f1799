// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/nn/transformer.hpp"

namespace peft {

class Json;
class GgufFile;

/// How a weight lies in a file, where that is not (out, in) in Hugging Face's order.
enum class Layout {
  plain,
  rotary_in_gguf,    // GGUF has the rotary pairs of each head side by side
  plus_one_in_gguf,  // GGUF has 1 + w where Hugging Face has w
  conv1d,            // Hugging Face has (in, out); GGUF has not
};

/// One module's name in our tree, in Hugging Face's files and in GGUF; `{}` is the layer. Heads are named by their task: "seq_cls.out". A name
/// of ours that ends in ".bias" is of one tensor, which Hugging Face does not keep below its module.
struct TensorName {
  const char* ours;
  const char* huggingface;
  const char* gguf = nullptr;
  Layout layout = Layout::plain;
};

/// What an architecture states of itself: how its configuration reads from either format, and what its modules are called.
struct Architecture {
  const char* model_type;  // config.json's
  const char* gguf;        // general.architecture; null: no such files
  const char* prefix;      // of all modules but the head's, where there is a head
  TransformerConfig (*from_json)(const Json& config);
  Json (*to_json)(const TransformerConfig& config);
  TransformerConfig (*from_gguf)(const GgufFile& file);
  std::span<const TensorName> names;
  const char* variant = "";       // tells apart those of one model_type; empty for the first of them
  const char* own_key = nullptr;  // in config.json only this one of its model_type has it
};

/// All that are known, in the order of model_type.
std::span<const Architecture> architectures();
/// Throws NotSupported naming the value, and what is known. Of several architectures of one model_type, the first.
const Architecture& architecture_of_model_type(std::string_view model_type);
/// The one that a config.json is of, and that a model is of.
const Architecture& architecture_of(const Json& config);
const Architecture& architecture_of(const TransformerConfig& config);
const Architecture& architecture_of_gguf(std::string_view name);
/// What GGUF files of this architecture say in general.architecture: that of the architecture with the same names (a Mistral says "llama"). Throws
/// NotSupported where there are no such files.
const char* gguf_architecture(const Architecture& architecture);

/// Checks that the numbers fit together (heads divide, nothing is negative or absurd) before any weight is read.
void validate(const TransformerConfig& config);

/// `pattern` with its {} replaced by the layer.
std::string tensor_name(std::string_view pattern, std::int64_t layer);
/// "causal_lm", "seq_cls", …: PEFT's task types in small letters, and the first part of a head's names.
const char* name(TaskType task);

/// Hugging Face's path of the module that we call `ours`. Models without a head have no prefix.
std::string module_path(const Architecture& architecture, TaskType task, std::string_view ours, std::int64_t layer = 0);
/// The row of the table that a path of Hugging Face's (with or without the prefix) belongs to, and its layer; null if there is none.
struct FoundName {
  const TensorName* name = nullptr;
  std::int64_t layer = 0;
  explicit operator bool() const { return name != nullptr; }
};
FoundName find_name(const Architecture& architecture, std::string_view path);
/// What the file calls the parameter at `path`.
std::string name_in_file(const Architecture& architecture, const std::string& path);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/config.inl"
#endif
