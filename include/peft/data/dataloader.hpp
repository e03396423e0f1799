// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "peft/data/collate.hpp"

namespace peft {

struct DataLoaderConfig {
  std::int64_t batch_size = 8;  // sequences a batch
  bool shuffle = true;          // a new order every epoch
  std::uint64_t seed = 0;
  bool group_by_length = false;  // neighbours of similar length share a batch (groups of 50 batches, longest first)
  bool drop_last = false;        // leave out the last batch of an epoch if it is not full
};

/// Throws ConfigError for a batch size below 1.
void validate(const DataLoaderConfig& config);

/// Cuts a dataset into batches. The order of an epoch follows from (seed, epoch) alone, so that any place can be gone to: a resumed run
/// sees the very batches that the interrupted one would have seen.
class DataLoader {
 public:
  struct Position {
    std::int64_t epoch = 0, step = 0;
    bool operator==(const Position&) const = default;
  };

  /// Throws ConfigError if the config is invalid or not one batch comes out of it.
  DataLoader(Dataset dataset, DataLoaderConfig config = {});

  const Dataset& dataset() const { return dataset_; }
  const DataLoaderConfig& config() const { return config_; }
  std::int64_t steps_per_epoch() const;

  /// The batch at a place. 0 ≤ step < steps_per_epoch().
  Batch batch(Position position) const;
  /// The batch at the current position, which then moves on, into the next epoch after the last step.
  Batch next();
  Position position() const { return position_; }
  void seek(Position position);

  /// The order in which an epoch visits the examples.
  std::vector<std::size_t> order(std::int64_t epoch) const;

 private:
  void check(Position position) const;
  Batch batch_of(const std::vector<std::size_t>& order, std::int64_t step) const;

  Dataset dataset_;
  DataLoaderConfig config_;
  Position position_;
  std::int64_t current_epoch_ = -1;  // whose order is in current_order_
  std::vector<std::size_t> current_order_;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/data/impl/dataloader.inl"
#endif
