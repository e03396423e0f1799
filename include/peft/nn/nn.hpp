// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/nn/adapter_slot.hpp"
#include "peft/nn/attention.hpp"
#include "peft/nn/block.hpp"
#include "peft/nn/embedding.hpp"
#include "peft/nn/front.hpp"
#include "peft/nn/head.hpp"
#include "peft/nn/kv_cache.hpp"
#include "peft/nn/linear.hpp"
#include "peft/nn/mlp.hpp"
#include "peft/nn/module.hpp"
#include "peft/nn/norm.hpp"
#include "peft/nn/pass.hpp"
#include "peft/nn/rotary.hpp"
#include "peft/nn/sequences.hpp"
#include "peft/nn/transformer.hpp"
#include "peft/nn/transformer_config.hpp"
