// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "peft/io/gguf_writer.hpp"
#include "peft/models/config.hpp"

namespace peft {

/// The keys that Architecture::from_gguf reads. What GGUF's architecture has no key for, so that a reader would compute something else (windows, biases,
/// another activation, …), is refused by name and value (NotSupported).
void set_gguf_metadata(GgufFileWriter& writer, const TransformerConfig& config);

/// What the tensor rope_freqs.weight holds: one number a pair, which divides its frequency (Llama 3.1). Empty where there is none.
std::vector<float> gguf_rope_divisors(const TransformerConfig& config);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/gguf_metadata.inl"
#endif
