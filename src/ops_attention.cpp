// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/impl/attention.inl"
#include "peft/ops/impl/linear_cross_entropy.inl"

namespace peft::ops {

#define PEFT_INSTANTIATE(T)                                                                                                                                  \
  template void attention_forward<T>(View<T>, View<T>, View<const T>, std::span<const AttentionSequence<T>>, const AttentionShape&, const RelativeBias<T>&); \
  template void attention_backward<T>(GradSink<T>, std::span<const AttentionSequenceGrad<T>>, View<const T>, View<const T>, View<const T>, View<const T>,    \
                                      std::span<const AttentionSequence<T>>, const AttentionShape&, const RelativeBias<T>&, GradSink<T>);                    \
  template void linear_cross_entropy_forward<T>(T*, T*, View<T>, View<const T>, const WeightView&, const T*, const ClassTargets<T>&, double);                \
  template void linear_cross_entropy_backward_weight<T>(GradSink<T>, GradSink<T>, T, View<const T>, const WeightView&, const T*, const ClassTargets<T>&,     \
                                                        const T*, double);
PEFT_INSTANTIATE(float)
PEFT_INSTANTIATE(double)
#undef PEFT_INSTANTIATE

}  // namespace peft::ops
