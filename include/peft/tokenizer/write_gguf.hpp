// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "peft/io/gguf_writer.hpp"

namespace peft {

/// Puts the tokenizer of a Hugging Face directory (tokenizer.json, or sentencepiece's tokenizer.model) and its chat template into a GGUF file to come, as the
/// keys tokenizer.*: byte-level BPE as "gpt2", BPE of the kind of sentencepiece as "llama", WordPiece as "bert". Ids without a token, up to `vocab_size`, are
/// "[PAD<id>]", of the type unused. What load_tokenizer makes of these keys has the ids of the directory's tokenizer. Throws NotSupported for what the keys
/// cannot say (what it is, is in the message), ConfigError for tokens beyond the vocabulary, FormatError for files that cannot be read. The writer may hold
/// some of the keys after an error.
void write_gguf_tokenizer(GgufFileWriter& writer, const std::string& directory, std::int64_t vocab_size);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/write_gguf.inl"
#endif
