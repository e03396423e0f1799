// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/bert.hpp"
#include "peft/models/bloom.hpp"
#include "peft/models/chatglm.hpp"
#include "peft/models/config.hpp"
#include "peft/models/gemma.hpp"
#include "peft/models/gguf_metadata.hpp"
#include "peft/models/glm.hpp"
#include "peft/models/gpt2.hpp"
#include "peft/models/gpt_neox.hpp"
#include "peft/models/llama.hpp"
#include "peft/models/mistral.hpp"
#include "peft/models/opt.hpp"
#include "peft/models/phi3.hpp"
#include "peft/models/qwen.hpp"
#include "peft/models/t5.hpp"
