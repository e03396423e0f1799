// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "peft/autograd/functions/embedding.hpp"
#include "peft/autograd/functions/low_rank.hpp"
#include "peft/nn/blank.hpp"

namespace peft {

/// One sequence of a packed batch: its rows, and what its surroundings must know of it.
struct Sequence {
  std::int64_t begin = 0, end = 0;  // rows of the batch
  std::int64_t first_position = 0;  // of its first row: after a cache or a prefix, or behind counted padding
  std::uint64_t id = 0;             // names the sequence wherever it is packed: dropout draws by it
  std::int64_t context = 0;         // keys of its own that every query sees (bidirectional context), from the first
  Blank blank = {};                 // positions in two dimensions
  int active = 0;                   // which of the Pass's active lists is its own
  int task = 0;
  int behind = -1;  // an earlier sequence of the batch whose rows stand ahead of this one's: a beginning that several share
  std::int64_t length() const { return end - begin; }
};

/// The layout of a packed batch: no padding, sequences one after the other. Everything that depends on where a row stands reads it here.
class Sequences {
 public:
  Sequences() = default;
  explicit Sequences(std::vector<Sequence, PoolAllocator<Sequence>> all);
  /// Sequences of these lengths, from position 0 on, named 0, 1, ….
  static std::shared_ptr<const Sequences> of_lengths(std::span<const std::int64_t> lengths);

  std::span<const Sequence> all() const { return all_; }
  std::int64_t rows() const { return all_.empty() ? 0 : all_.back().end; }
  std::size_t size() const { return all_.size(); }
  const Sequence& operator[](std::size_t i) const { return all_[i]; }
  std::int64_t longest() const;
  /// Position of each row; for rotary and learned positions.
  const std::shared_ptr<const Ids>& positions() const { return positions_; }
  std::int64_t last_position() const { return last_position_; }
  /// Position of each row within the blank that it fills, 0 in front of it; null where no sequence has a blank.
  const std::shared_ptr<const Ids>& block_positions() const { return block_positions_; }
  /// A name of each row that does not depend on packing; for dropout.
  const std::shared_ptr<const RowKeys>& row_keys() const { return row_keys_; }

 private:
  std::vector<Sequence, PoolAllocator<Sequence>> all_;
  std::shared_ptr<const Ids> positions_, block_positions_;
  std::shared_ptr<const RowKeys> row_keys_;
  std::int64_t last_position_ = -1;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/nn/impl/sequences.inl"
#endif
