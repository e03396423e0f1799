// SPDX-License-Identifier: Apache-2.0
#include "train_run.hpp"

namespace parity {
void check_training(Report&, const std::string&, const peft::SafetensorsFile&, const GoldenBatch&, peft::PeftModel<peft::Transformer<float>>&) {}
}  // namespace parity
