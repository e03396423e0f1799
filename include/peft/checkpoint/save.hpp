// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/nn/transformer.hpp"

namespace peft {

/// Writes DIR/config.json, DIR/generation_config.json and DIR/model.safetensors, which transformers loads. Tensors that still lie in a file as
/// F16 or BF16 keep that type; all others are written as `dtype` (f32, f16 or bf16), converted one at a time. A tied head is stored once. A model of more than
/// `max_shard_bytes` becomes shards of at most so many, and their index.
template <Scalar T>
void save_model(const Transformer<T>& model, const std::string& directory, DType dtype = DType::f32, std::int64_t max_shard_bytes = 5'000'000'000);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/save.inl"
#endif
