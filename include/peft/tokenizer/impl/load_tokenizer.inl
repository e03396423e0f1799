// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "peft/tokenizer/builtin_templates.hpp"
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

PEFT_INLINE ChatTemplate load_chat_template(const std::string& name_or_file) {
  const std::vector<std::string>& names = builtin_chat_templates();
  const auto refuse = [&](const std::string& what) { throw ConfigError("chat_template", "\"" + name_or_file + "\" " + what); };
  std::string text;
  if (std::ranges::find(names, name_or_file) != names.end()) {
    text = builtin_chat_template(name_or_file);
  } else if (!std::filesystem::is_regular_file(name_or_file)) {
    refuse("is neither a file nor a built-in template" + did_you_mean(name_or_file, names, "there are"));
  } else if (name_or_file.ends_with(".json")) {
    text = tokenizer::detail::template_text(Json::read(name_or_file));
  } else {
    std::ifstream file(name_or_file, std::ios::binary);
    text.assign(std::istreambuf_iterator<char>(file), {});
    if (!file) throw FormatError(name_or_file, -1, "cannot be read");
  }
  ChatTemplate chat(std::move(text));
  if (!chat.usable()) refuse(chat.text().empty() ? "has no chat template" : "is not understood: " + chat.failure());
  return chat;
}

}  // namespace peft
