// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model_run.hpp"

namespace parity {

/// Ten AdamW steps from the adapter as it is: losses before each and after the last, parameters and logits afterwards.
void check_training(Report& report, const std::string& name, const peft::SafetensorsFile& golden, const GoldenBatch& batch,
                    peft::PeftModel<peft::Transformer<float>>& tuned);

}  // namespace parity
