// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/impl/activation.inl"
#include "peft/ops/impl/elementwise.inl"
#include "peft/ops/impl/embedding.inl"
#include "peft/ops/impl/norm.inl"
#include "peft/ops/impl/rope.inl"
#include "peft/ops/impl/update.inl"

namespace peft::ops {

#define PEFT_INSTANTIATE(T)                                                                                                           \
  template void activation_forward<T>(View<T>, View<const T>, Activation);                                                            \
  template void activation_backward<T>(GradSink<T>, View<const T>, View<const T>, Activation);                                        \
  template void gated_forward<T>(View<T>, View<const T>, View<const T>, Activation);                                                  \
  template void gated_backward<T>(GradSink<T>, GradSink<T>, View<const T>, View<const T>, View<const T>, Activation);                 \
  template void softcap_forward<T>(View<T>, View<const T>, double);                                                                   \
  template void softcap_backward<T>(View<T>, View<const T>, View<const T>, double);                                                   \
  template void copy<T>(View<T>, View<const T>);                                                                                      \
  template void add_into<T>(View<T>, View<const T>);                                                                                  \
  template void add<T>(View<T>, View<const T>, View<const T>);                                                                        \
  template void axpy<T>(View<T>, T, View<const T>);                                                                                   \
  template void scale<T>(View<T>, T, View<const T>);                                                                                  \
  template void multiply<T>(View<T>, View<const T>, View<const T>);                                                                   \
  template void into<T>(GradSink<T>, View<const T>);                                                                                  \
  template void dropout<T>(View<T>, View<const T>, const DropoutKey&, std::span<const std::uint64_t>);                                \
  template double sum_of_squares<T>(View<const T>);                                                                                   \
  template void log_softmax<T>(View<T>);                                                                                              \
  template void embedding_forward<T>(View<T>, std::span<const std::int32_t>, const WeightView&, T);                                   \
  template void embedding_backward<T>(GradSink<T>, View<const T>, std::span<const std::int32_t>, T, std::int32_t);                    \
  template void rms_norm_forward<T>(View<T>, T*, View<const T>, const T*, T, T);                                                      \
  template void rms_norm_backward<T>(GradSink<T>, GradSink<T>, View<const T>, View<const T>, const T*, const T*, T);                  \
  template void layer_norm_forward<T>(View<T>, View<T>, View<const T>, const T*, const T*, T);                                        \
  template void layer_norm_backward<T>(GradSink<T>, GradSink<T>, GradSink<T>, View<const T>, View<const T>, const T*, View<const T>); \
  template void rope<T>(View<T>, std::span<const std::int32_t>, View<const T>, View<const T>, std::int64_t, bool, bool);              \
  template void rope_table<T>(View<T>, View<T>, std::span<const double>, T);                                                          \
  template void adamw_update<T>(View<T>, View<T>, View<T>, View<const T>, const AdamwStep&);                                          \
  template void adamw_update<T>(std::span<const AdamwTensor<T>>);                                                                     \
  template void sgd_update<T>(View<T>, View<T>, View<const T>, double, double, double);
PEFT_INSTANTIATE(float)
PEFT_INSTANTIATE(double)
#undef PEFT_INSTANTIATE

}  // namespace peft::ops
