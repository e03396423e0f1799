// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/lora/config.hpp"

namespace peft {

// A LoRA as mlx-lm writes it: adapter_config.json, which says fine_tune_type and lora_parameters {rank, scale, dropout}, and adapters.safetensors with
//
//     model.layers.0.self_attn.q_proj.lora_a (in, r), .lora_b (r, out), and of DoRA .m (out)        y = W x + scale · (x lora_a) lora_b
//
// The module's names are the base's own. Of an embedding, lora_a is (num_embeddings, r).

/// True if the directory has such an adapter: an adapter_config.json that names no peft_type, and an adapters.safetensors.
bool has_mlx_adapter(const std::string& directory);

/// Reads it: r, and alpha = scale · r; `tensors` by the names that PEFT's files have for them. `embedding`: the path of the base's input embedding. Throws
/// FormatError for what is broken or does not fit together, NotSupported for what is no LoRA or DoRA of such modules ("full", experts).
LoraConfig read_mlx_adapter(const std::string& directory, const std::string& embedding, AdapterTensors& tensors);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/mlx_adapter.inl"
#endif
