// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <variant>

#include "peft/adapters/lora/lora.hpp"

namespace peft {

/// Every method that a file may name, by its config. Only the reader of adapter files needs this list; `add_adapter` takes any config that
/// has an `attach_adapter`, a user's own included.
using AnyAdapterConfig = std::variant<LoraConfig>;

}  // namespace peft
