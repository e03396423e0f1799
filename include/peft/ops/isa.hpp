// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "peft/core/config.hpp"

namespace peft {

/// The instruction sets that kernels exist for. On x86-64: SSE2, AVX2 + FMA, AVX-512 (F, BW, DQ, VL). Elsewhere all is baseline (NEON on ARM).
enum class Isa { baseline, avx2, avx512 };

/// What this process uses: the best that the processor has, at most the environment's PEFT_ISA (0, 1, 2 or a name). Decided once.
Isa isa();

/// "AVX-512", "AVX2", "baseline"
std::string_view name(Isa isa);

}  // namespace peft

// Calls KERNEL (with its arguments) in the namespace of the instruction set in use.
#if defined(__x86_64__)
#define PEFT_DISPATCH(KERNEL, ...)                                    \
  (::peft::isa() == ::peft::Isa::avx512 ? avx512::KERNEL(__VA_ARGS__) \
   : ::peft::isa() == ::peft::Isa::avx2 ? avx2::KERNEL(__VA_ARGS__)   \
                                        : baseline::KERNEL(__VA_ARGS__))
#else
#define PEFT_DISPATCH(KERNEL, ...) (baseline::KERNEL(__VA_ARGS__))
#endif

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/isa.inl"
#endif
