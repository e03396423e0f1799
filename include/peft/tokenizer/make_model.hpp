// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "peft/tokenizer/fwd.hpp"
#include "peft/tokenizer/model.hpp"

namespace peft::tokenizer {

/// From the "model" of a tokenizer.json. Throws FormatError(path) that names an unknown type.
ModelPtr make_model(const Json& json, std::string_view path);

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/model.inl"
#endif
