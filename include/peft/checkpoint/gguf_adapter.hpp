// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/lora/config.hpp"
#include "peft/nn/transformer.hpp"

namespace peft {

/// A GGUF adapter in PEFT's terms: what adapter_config.json would say, tensors by PEFT's names, rows in Hugging Face's order.
struct GgufAdapter {
  LoraConfig config;
  AdapterTensors tensors;
};

/// Reads a LoRA in GGUF (general.type "adapter", adapter.type "lora") for a base of this configuration:
///
///     y = W x + s B (A x),   s = adapter.lora.alpha / rank, or 1 where alpha is 0 or missing
///
/// `<tensor>.lora_a` is A (rank, in), `<tensor>.lora_b` is B (out, rank), in any type that is a weight's. Of token_embd, lora_a is Aᵀ. B's rows are in
/// the order of the base's: permuted for llama's q and k. Throws FormatError for what is broken, half there or of another architecture, NotSupported
/// for deltas of norms and for activated LoRAs.
GgufAdapter read_gguf_adapter(const std::string& path, const TransformerConfig& base);

/// The reverse, float32. GGUF has one alpha: where sites differ (rank_pattern, alpha_pattern, rsLoRA), what is left of a site's scale is multiplied into
/// its B. Throws NotSupported for tensors that GGUF has no place for. Atomic.
void write_gguf_adapter(const std::string& path, const TransformerConfig& base, const LoraConfig& config, const AdapterTensors& tensors);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/gguf_adapter.inl"
#endif
