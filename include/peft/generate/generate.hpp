// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/generate/beam_search.hpp"
#include "peft/generate/chat.hpp"
#include "peft/generate/completion.hpp"
#include "peft/generate/config.hpp"
#include "peft/generate/constraint.hpp"
#include "peft/generate/draft.hpp"
#include "peft/generate/initial_prefix.hpp"
#include "peft/generate/language_model.hpp"
#include "peft/generate/logits_processor.hpp"
#include "peft/generate/prompt_cache.hpp"
#include "peft/generate/sampler.hpp"
#include "peft/generate/scoring.hpp"
#include "peft/generate/stopping.hpp"
#include "peft/generate/text_generation.hpp"
