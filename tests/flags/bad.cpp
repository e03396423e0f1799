// SPDX-License-Identifier: Apache-2.0
// Kernels that forgot their target: compiled for AVX-512, they hold it whatever namespace they stand in. check.cmake must say so.
typedef float Sixteen __attribute__((vector_size(64)));

#define KERNELS(ISA)                                                                  \
  namespace peft::ops::ISA {                                                          \
  __attribute__((noinline)) void add(Sixteen* y, const Sixteen* x) { *y += *x; }      \
  __attribute__((noinline)) void multiply(Sixteen* y, const Sixteen* x) { *y *= *x; } \
  }
KERNELS(avx512)
KERNELS(avx2)
KERNELS(baseline)

int main(int count, char**) {
  if (count == 1) return 0;
  Sixteen a{}, b{};
  peft::ops::avx512::add(&a, &b), peft::ops::avx2::add(&a, &b), peft::ops::baseline::add(&a, &b);
  peft::ops::avx512::multiply(&a, &b), peft::ops::avx2::multiply(&a, &b), peft::ops::baseline::multiply(&a, &b);
  return a[0] == b[0] ? 0 : 1;
}
