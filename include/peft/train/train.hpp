// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/train/classification.hpp"
#include "peft/train/embed.hpp"
#include "peft/train/eva.hpp"
#include "peft/train/frozen_states.hpp"
#include "peft/train/objective.hpp"
#include "peft/train/question_answering.hpp"
#include "peft/train/scores.hpp"
#include "peft/train/trainables.hpp"
#include "peft/train/trainer.hpp"
