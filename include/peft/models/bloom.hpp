// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// BLOOM (Le Scao et al. 2022, arXiv:2211.05100): no positions but ALiBi (arXiv:2108.12409), a norm behind the word vectors, and q, k, v of a
/// head side by side in one Linear.
const Architecture& bloom_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/bloom.inl"
#endif
