// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <utility>

// The vector type of each instruction set, read once a unit. Every kernels header includes this one first.
#define PEFT_KERNELS "peft/ops/impl/simd.inl"
#include "peft/ops/impl/foreach_isa.hpp"
