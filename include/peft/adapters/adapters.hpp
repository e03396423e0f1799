// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/head.hpp"
#include "peft/adapters/lora/convert.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/lora/weighted.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/adapters/registry.hpp"
#include "peft/adapters/status.hpp"
#include "peft/adapters/target_modules.hpp"
