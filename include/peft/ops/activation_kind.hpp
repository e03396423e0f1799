// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace peft::ops {

/// silu(x) = x σ(x); gelu = x Φ(x); gelu_tanh = its tanh approximation ("gelu_new"); relu; tanh.
enum class Activation { silu, gelu, gelu_tanh, relu, tanh };

}  // namespace peft::ops
