// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

// Everything but the views on other libraries' arrays, <peft/interop/…>, which want these libraries.
#include "peft/adapters/adapters.hpp"
#include "peft/checkpoint/checkpoint.hpp"
#include "peft/data/data.hpp"
#include "peft/freeze/freeze.hpp"
#include "peft/generate/generate.hpp"
#include "peft/io/io.hpp"
#include "peft/lora.hpp"
#include "peft/models/models.hpp"
#include "peft/nn/nn.hpp"
#include "peft/optim/optim.hpp"
#include "peft/tokenizer/tokenizer.hpp"
#include "peft/train/train.hpp"
#include "peft/version.hpp"
