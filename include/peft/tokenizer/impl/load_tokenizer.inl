// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fstream>

#include "peft/tokenizer/impl/load_gguf.inl"
#include "peft/tokenizer/impl/load_huggingface.inl"
#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

PEFT_INLINE Tokenizer load_tokenizer(const std::string& model) {
  const std::string path = tokenizer::detail::gguf_within(model);
  bool gguf = false;
  if (!std::filesystem::is_directory(path)) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw FormatError(path, -1, "cannot be opened");
    char magic[4] = {};
    file.read(magic, 4);
    gguf = std::string_view(magic, 4) == "GGUF" || path.ends_with(".gguf");
  }
  return tokenizer::detail::in_file(path, [&] { return Tokenizer(gguf ? tokenizer::detail::read_gguf(path) : tokenizer::detail::read_huggingface(path)); });
}

}  // namespace peft
