// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"
#include "peft/models/llama.hpp"
