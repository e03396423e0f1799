// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// T5 (Raffel et al. 2020, arXiv:1910.10683), 1.0 and 1.1: an encoder and a decoder that attends to it, RMS norms in front of each sublayer,
/// scores that are not scaled but have a number for each bucket of distances, no biases. 1.0: a ReLU MLP, the head is the embedding and reads
/// states times 1/√hidden_size; 1.1: GeGLU, a head of its own.
const Architecture& t5_architecture();
/// mT5 (Xue et al. 2021, arXiv:2010.11934) and mT0: T5 1.1 with 250,112 words.
const Architecture& mt5_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/t5.inl"
#endif
