// SPDX-License-Identifier: Apache-2.0
// Reads the file named by PEFT_KERNELS once for each instruction set, with a namespace and a target attribute of its own:
//
//     #define PEFT_KERNELS "peft/ops/impl/norm_kernels.inl"
//     #include "peft/ops/impl/foreach_isa.hpp"
//
// The file defines its kernels inside `namespace peft::ops::PEFT_ISA { … }`, each marked PEFT_TARGET, or PEFT_SIMD if it must be inlined
// (a function that takes or returns vectors: V<T>, L<T>, load, … of simd.hpp, to be included before). PEFT_BYTES is the width of a
// vector register, PEFT_MR and PEFT_ROWS the height of the GEMM's register tile. Targets also subtract (no-avx512f, no-avx), so that
// a kernel is the same code whatever flags its unit has and merged copies agree. No lambda and no std algorithm inside a kernel: they
// do not inherit the target. No guard: included again and again.
#define PEFT_SIMD PEFT_TARGET __attribute__((always_inline)) inline
#if defined(__x86_64__)
#define PEFT_ISA avx512
#define PEFT_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define PEFT_BYTES 64
#define PEFT_MR 14
#define PEFT_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)
#include PEFT_KERNELS
#undef PEFT_ISA
#undef PEFT_TARGET
#undef PEFT_BYTES
#undef PEFT_MR
#undef PEFT_ROWS
#define PEFT_ISA avx2
#define PEFT_TARGET __attribute__((target("avx2,fma,f16c,no-avx512f")))
#define PEFT_BYTES 32
#define PEFT_MR 6
#define PEFT_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5)
#include PEFT_KERNELS
#undef PEFT_ISA
#undef PEFT_TARGET
#undef PEFT_BYTES
#undef PEFT_MR
#undef PEFT_ROWS
#define PEFT_TARGET __attribute__((target("no-avx")))
#else
#define PEFT_TARGET
#endif
#define PEFT_ISA baseline
#define PEFT_BYTES 16
#define PEFT_MR 6
#define PEFT_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5)
#include PEFT_KERNELS
#undef PEFT_ISA
#undef PEFT_TARGET
#undef PEFT_BYTES
#undef PEFT_MR
#undef PEFT_ROWS
#undef PEFT_KERNELS
#undef PEFT_SIMD
