// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "peft/core/config.hpp"
#include "peft/tokenizer/fwd.hpp"

namespace peft {

/// Puts the tokenizer of a model (a Hugging Face directory or a GGUF file) into `directory` as Hugging Face's libraries read it: the files as
/// they are, or tokenizer.json and tokenizer_config.json made of a GGUF file's metadata. Throws NotSupported for kinds of GGUF vocabulary
/// other than byte-level BPE.
void save_tokenizer(const std::string& model, const std::string& directory);

/// Writes a chat template as `directory`/chat_template.jinja, which goes before any other that is there.
void save_chat_template(const ChatTemplate& chat, const std::string& directory);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/save.inl"
#endif
