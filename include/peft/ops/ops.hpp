// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/ops/activation.hpp"
#include "peft/ops/attention.hpp"
#include "peft/ops/elementwise.hpp"
#include "peft/ops/embedding.hpp"
#include "peft/ops/factorise.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/isa.hpp"
#include "peft/ops/linear_cross_entropy.hpp"
#include "peft/ops/low_rank.hpp"
#include "peft/ops/matrix.hpp"
#include "peft/ops/norm.hpp"
#include "peft/ops/quantized.hpp"
#include "peft/ops/rope.hpp"
#include "peft/ops/task_arithmetic.hpp"
#include "peft/ops/update.hpp"
#include "peft/ops/weight_view.hpp"
