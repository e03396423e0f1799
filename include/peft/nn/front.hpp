// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/nn/sequences.hpp"

namespace peft {

/// What an active list puts in front of every sequence of its own. A virtual token is an id ≥ vocab_size: an adapter on the Embedding answers
/// for it, everything else sees an ordinary row.
struct Front {
  std::int64_t past = 0;       // keys and values of a prefix
  std::int64_t positions = 0;  // how far they move what follows: `past`, or not at all (ChatGLM)
  std::int64_t tokens = 0;     // virtual tokens
  std::int32_t first_id = 0;   // their ids: first_id + task · stride + i
  std::int64_t stride = 0;
  std::int64_t tasks = 1;   // allowed values of Sequence::task
  std::int64_t placed = 0;  // virtual tokens, from first_id on, that stand within the sequences: their ids are there already
  bool empty() const { return past == 0 && tokens == 0; }
};

/// How keys and values in front of the first token are made and counted, where an architecture has its own way.
struct PrefixConvention {
  bool moves_positions = true;   // the first token stands behind them; false: at position 0
  bool wide_projection = false;  // a projection reads rows of 2 · layers · kv_heads · head_dim numbers instead of kv_heads · head_dim
};

/// A packed batch with its fronts.
struct FrontedRows {
  std::shared_ptr<const Sequences> sequences;
  std::vector<std::int32_t> ids;
  Ids targets;                      // virtual tokens predict nothing
  std::vector<std::int64_t> place;  // of each given row among the new ones
};

/// Puts the virtual tokens ahead of each sequence and moves positions as prefixes do; fronts[s.active] is a sequence's own. `targets` may be
/// empty. Throws Error for a task that the front does not have, and for sequences that share a beginning.
FrontedRows with_fronts(std::span<const Front> fronts, const Sequences& sequences, std::span<const std::int32_t> ids,
                        std::span<const std::int32_t> targets = {});

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/nn/impl/front.inl"
#endif
