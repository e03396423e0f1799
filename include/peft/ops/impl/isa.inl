// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <string>

#include "peft/core/error.hpp"
#include "peft/ops/isa.hpp"

namespace peft {

namespace detail {
PEFT_INLINE Isa choose_isa() {
  int cap = 2;
  if (const char* text = std::getenv("PEFT_ISA"); text && *text) {
    const std::string_view name = text;
    if (name == "0" || name == "baseline")
      cap = 0;
    else if (name == "1" || name == "avx2")
      cap = 1;
    else if (name == "2" || name == "avx512")
      cap = 2;
    else
      throw ConfigError("isa", "PEFT_ISA=" + std::string(name) + "; allowed are 0 (baseline), 1 (avx2), 2 (avx512)");
  }
#if defined(__x86_64__)
  if (cap > 1 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return Isa::avx512;
  if (cap > 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::baseline;
}
}  // namespace detail

PEFT_INLINE Isa isa() {
  static const Isa chosen = detail::choose_isa();
  return chosen;
}

PEFT_INLINE std::string_view name(Isa isa) { return isa == Isa::avx512 ? "AVX-512" : isa == Isa::avx2 ? "AVX2" : "baseline"; }

}  // namespace peft
