// SPDX-License-Identifier: Apache-2.0
#include "peft/train/impl/classification.inl"
#include "peft/train/impl/frozen_states.inl"
#include "peft/train/impl/objective.inl"
#include "peft/train/impl/question_answering.inl"
#include "peft/train/impl/scores.inl"
#include "peft/train/impl/trainer.inl"
