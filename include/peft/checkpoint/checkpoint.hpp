// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/checkpoint/adapter_file.hpp"
#include "peft/checkpoint/adapter_task.hpp"
#include "peft/checkpoint/gguf_adapter.hpp"
#include "peft/checkpoint/load.hpp"
#include "peft/checkpoint/mlx_adapter.hpp"
#include "peft/checkpoint/prefix_file.hpp"
#include "peft/checkpoint/save.hpp"
#include "peft/checkpoint/save_gguf.hpp"
#include "peft/checkpoint/training_state.hpp"
