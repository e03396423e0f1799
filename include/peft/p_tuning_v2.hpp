// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/peft_model.hpp"
#include "peft/adapters/prefix_tuning/prefix_tuning.hpp"
#include "peft/freeze/freeze.hpp"
#include "peft/nn/nn.hpp"
