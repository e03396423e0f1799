// SPDX-License-Identifier: Apache-2.0
#include "peft/train/impl/classification.inl"
#include "peft/train/impl/frozen_states.inl"
#include "peft/train/impl/objective.inl"
#include "peft/train/impl/question_answering.inl"
#include "peft/train/impl/scores.inl"
#include "peft/train/impl/trainer.inl"
#include "peft/train/trainer.hpp"

namespace peft {
#define PEFT_INSTANTIATE(M)                                                                                                                \
  template double accumulate_gradients(const M&, const Batch&, double, const ForwardOptions&, std::int64_t, double, FrozenStates<float>*); \
  template Evaluation evaluate(const M&, const Dataset&, std::int64_t);                                                                    \
  template class Trainer<M>;
PEFT_INSTANTIATE(Transformer<float>)
PEFT_INSTANTIATE(PeftModel<Transformer<float>>)
}  // namespace peft
