// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/impl/gemm.inl"
#include "peft/ops/impl/isa.inl"
#include "peft/ops/impl/quantized.inl"

namespace peft::ops {

#define PEFT_INSTANTIATE(T)                                                                                       \
  template void widen<T>(T*, const void*, DType, std::int64_t, std::int64_t);                                     \
  template void widen<T>(View<T>, const WeightView&);                                                             \
  template void linear_forward<T>(View<T>, View<const T>, const WeightView&, const T*, bool, const Epilogue<T>&); \
  template void linear_backward_input<T>(GradSink<T>, View<const T>, const WeightView&, const Epilogue<T>&);      \
  template void linear_backward_weight<T>(GradSink<T>, GradSink<T>, View<const T>, View<const T>);                \
  template void gemm<T>(T, View<const T>, bool, View<const T>, bool, T, View<T>);
PEFT_INSTANTIATE(float)
PEFT_INSTANTIATE(double)
#undef PEFT_INSTANTIATE

}  // namespace peft::ops
