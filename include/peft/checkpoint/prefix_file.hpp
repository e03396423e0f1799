// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/prefix_tuning/config.hpp"
#include "peft/nn/transformer.hpp"

namespace peft {

// P-Tuning v2 in ChatGLM's own files: config.json says pre_seq_len (how many keys and values) and prefix_projection, and the tensors are the
// encoder's own,
//
//     transformer.prefix_encoder.embedding.weight (pre_seq_len, 2 L d), or, projected, trans.0.{weight, bias}, tanh, trans.2.{weight, bias}
//
// in prefix_encoder.safetensors, or among the base's tensors.

/// True if the directory has such a prefix: a config.json with a pre_seq_len, and no adapter_config.json.
bool has_prefix_encoder(const std::string& directory);

/// Reads it: `tensors` by the names that the encoder's parameters have here. Throws FormatError for what is broken or not there.
PrefixTuningConfig read_prefix_encoder(const std::string& directory, AdapterTensors& tensors);

/// The reverse, float32; `base`: what the prefix is in front of. Throws NotSupported for another architecture than ChatGLM's, and for a projection
/// that its files cannot describe.
void write_prefix_encoder(const std::string& directory, const TransformerConfig& base, const PrefixTuningConfig& config, const AdapterTensors& tensors);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/prefix_file.inl"
#endif
