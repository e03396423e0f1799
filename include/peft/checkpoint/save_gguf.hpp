// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "peft/core/dtype.hpp"
#include "peft/nn/transformer.hpp"

namespace peft {

/// Writes a model as a GGUF file. Matrices are written as `dtype`: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 or Q5_1, to the bytes of ggml's reference
/// quantiser; one that lies in a file as `dtype` is copied as it is. Vectors stay F32, and rows that are not whole blocks become F16. A tied head is left
/// out. `source`: a GGUF file of the same architecture, whose tokenizer and general.* keys go along, or a Hugging Face directory, whose tokenizer does
/// (write_gguf_tokenizer) and, where it is a sentence-transformer's BERT, its way of pooling; without one the file has no tokenizer (tokenizer.ggml.model
/// "none"). A `chat_template` goes before the source's. A BERT is
/// written as an encoder: without its pooler, which such files have not. One tensor at a time is in memory. Throws NotSupported for what GGUF has no form for.
/// Atomic.
template <Scalar T>
void save_gguf_model(const Transformer<T>& model, const std::string& path, DType dtype = DType::f32, const std::string& source = "",
                     const std::string& chat_template = "");

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/save_gguf.inl"
#endif
