// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

#include "peft/ops/activation_kind.hpp"
#include "peft/ops/impl/simd.hpp"

// exp and the activations, lane by lane, for each instruction set.
#define PEFT_KERNELS "peft/ops/impl/math.inl"
#include "peft/ops/impl/foreach_isa.hpp"
