// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/data/collate.hpp"
#include "peft/data/dataloader.hpp"
#include "peft/data/example.hpp"
#include "peft/data/formats.hpp"
#include "peft/data/labelled.hpp"
#include "peft/data/placed_prompt.hpp"
#include "peft/data/prompt_template.hpp"
#include "peft/data/questions.hpp"
