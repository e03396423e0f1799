// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fstream>

#include "peft/tokenizer/impl/load_gguf.inl"
#include "peft/tokenizer/impl/load_huggingface.inl"
#include "peft/tokenizer/impl/load_sentencepiece.inl"
#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

PEFT_INLINE Tokenizer load_tokenizer(const std::string& model) {
  namespace parts = tokenizer::detail;
  const std::string path = parts::gguf_within(model);
  const std::filesystem::path pieces = parts::sentencepiece_within(path);
  enum class Kind { huggingface, gguf, sentencepiece } kind = pieces.empty() ? Kind::huggingface : Kind::sentencepiece;
  if (!std::filesystem::is_directory(path)) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw FormatError(path, -1, "cannot be opened");
    char magic[4] = {};
    file.read(magic, 4);
    if (std::string_view(magic, 4) == "GGUF" || path.ends_with(".gguf"))
      kind = Kind::gguf;
    else if (path.ends_with(".model"))
      kind = Kind::sentencepiece;
  }
  return parts::in_file(path, [&] {
    return Tokenizer(kind == Kind::gguf            ? parts::read_gguf(path)
                     : kind == Kind::sentencepiece ? parts::read_sentencepiece_file(pieces.empty() ? std::filesystem::path(path) : pieces)
                                                   : parts::read_huggingface(path));
  });
}

}  // namespace peft
