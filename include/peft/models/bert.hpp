// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/models/config.hpp"

namespace peft {

/// BERT (Devlin et al. 2018, arXiv:1810.04805), MiniLM: an encoder with learned positions and segments, its norms behind the joins.
const Architecture& bert_architecture();
/// RoBERTa (Liu et al. 2019, arXiv:1907.11692): positions begin behind pad_token_id and padding has none.
const Architecture& roberta_architecture();
const Architecture& xlm_roberta_architecture();
/// DistilBERT (Sanh et al. 2019, arXiv:1910.01108): no segments, no pooler.
const Architecture& distilbert_architecture();

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/models/impl/bert.inl"
#endif
