// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "model_run.hpp"

namespace parity {

/// What the golden file calls a tensor that has this name in the adapter's file.
using GoldenName = std::function<std::string(const std::string&)>;

/// Ten AdamW steps from the adapter as it is: losses before each and after the last, parameters and logits afterwards.
void check_training(Report& report, const std::string& name, const peft::SafetensorsFile& golden, const GoldenBatch& batch,
                    peft::PeftModel<peft::Transformer<float>>& tuned, const GoldenName& golden_name = std::identity());

}  // namespace parity
