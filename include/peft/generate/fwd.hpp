// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/core/dtype.hpp"

namespace peft {
struct GenerationConfig;
struct Generation;
template <Scalar T>
class LanguageModel;
template <class M>
class ChatSession;
}  // namespace peft
