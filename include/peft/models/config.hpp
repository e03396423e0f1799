// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/nn/transformer.hpp"

namespace peft {

class Json;
class GgufFile;

/// One tensor's name in our tree, in Hugging Face's files and in GGUF; `{}` is the layer. Rotary: GGUF interleaves the rows of each head.
struct TensorName {
  const char* ours;
  const char* huggingface;
  const char* gguf;
  bool rotary_in_gguf = false;
};

/// What an architecture states of itself: how its configuration reads from either format, and what its modules are called.
struct Architecture {
  const char* model_type;  // config.json's
  const char* gguf;        // general.architecture; null: no such files
  TransformerConfig (*from_json)(const Json& config);
  TransformerConfig (*from_gguf)(const GgufFile& file);
  std::span<const TensorName> names;
};

/// All that are known, in the order of model_type.
std::span<const Architecture> architectures();
/// Throws ConfigError naming the value, and what is known.
const Architecture& architecture_of_model_type(std::string_view model_type);
const Architecture& architecture_of_gguf(std::string_view name);

/// Checks that the numbers fit together (heads divide, nothing is negative or absurd) before any weight is read.
void validate(const TransformerConfig& config);

/// `pattern` with its {} replaced by the layer.
std::string tensor_name(std::string_view pattern, std::int64_t layer);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/config.inl"
#endif
