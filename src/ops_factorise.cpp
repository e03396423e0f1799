// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/impl/factorise.inl"
#include "peft/ops/impl/incremental_pca.inl"
#include "peft/ops/impl/lengths.inl"
#include "peft/ops/impl/low_rank.inl"

namespace peft::ops {

#define PEFT_INSTANTIATE(T)                                                                                                                                \
  template void low_rank_forward<T>(View<T>, View<T>, View<const T>, View<const T>, View<const T>, T);                                                     \
  template void low_rank_gradients<T>(View<T>, GradSink<T>, GradSink<T>, View<const T>, View<const T>, View<const T>, View<const T>, T);                   \
  template void low_rank_backward<T>(GradSink<T>, GradSink<T>, GradSink<T>, View<const T>, View<const T>, View<const T>, View<const T>, View<const T>, T); \
  template void squared_lengths<T>(std::span<double>, const WeightView&, bool);                                                                            \
  template void lengths_of_sum<T>(std::span<T>, std::span<const double>, View<const T>, View<const T>, View<const T>, double);                             \
  template void split_by_svd<T>(View<T>, View<T>, View<const T>, double);                                                                                  \
  template void split_by_qr<T>(View<T>, View<T>, View<const T>);                                                                                           \
  template void inverse_gram<T>(View<T>, View<const T>, double);
PEFT_INSTANTIATE(float)
PEFT_INSTANTIATE(double)
#undef PEFT_INSTANTIATE

}  // namespace peft::ops
