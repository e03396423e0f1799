// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/optim/adamw.hpp"
#include "peft/optim/lr_scheduler.hpp"
#include "peft/optim/optimizer.hpp"
#include "peft/optim/sgd.hpp"
