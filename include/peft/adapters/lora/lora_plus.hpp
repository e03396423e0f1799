// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/freeze/policy.hpp"

namespace peft {

/// The groups of LoRA+ (Hayou et al. 2024, arXiv:2402.12354), by PEFT's create_loraplus_optimizer: A and matrices at lr, B and vectors at ratio · lr,
/// the factors of an embedding at a rate of their own. Biases and layer norms of the second do not decay.
enum class LoraPlusGroup { A, B, B_no_decay, embedding };

/// `in_layer_norm`: the parameter is a layer norm's (not an RMS norm's, as PEFT has it).
inline LoraPlusGroup lora_plus_group(const ParameterInfo& info, bool in_layer_norm) {
  const auto has = [&](std::string_view part) { return info.path.find(part) != std::string::npos; };
  if (has("lora_embedding_")) return LoraPlusGroup::embedding;
  if (!has("lora_B") && info.shape.rank() != 1) return LoraPlusGroup::A;
  return in_layer_norm || has("bias") ? LoraPlusGroup::B_no_decay : LoraPlusGroup::B;
}

}  // namespace peft
