// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <numeric>
#include <span>

#include "peft/core/error.hpp"
#include "peft/core/random.hpp"
#include "peft/data/dataloader.hpp"

namespace peft {

PEFT_INLINE void validate(const DataLoaderConfig& config) {
  if (config.batch_size < 1) throw ConfigError("dataloader", "batch_size is " + std::to_string(config.batch_size) + "; it must be at least 1");
}

PEFT_INLINE DataLoader::DataLoader(Dataset dataset, DataLoaderConfig config) : dataset_(std::move(dataset)), config_(config) {
  validate(config_);
  if (steps_per_epoch() == 0)
    throw ConfigError("dataloader", "a dataset of " + std::to_string(dataset_.size()) + " examples gives no batch of " + std::to_string(config_.batch_size) +
                                        (config_.drop_last ? " with drop_last" : ""));
}

PEFT_INLINE std::int64_t DataLoader::steps_per_epoch() const {
  const auto size = static_cast<std::int64_t>(dataset_.size());
  return size / config_.batch_size + (!config_.drop_last && size % config_.batch_size != 0 ? 1 : 0);
}

PEFT_INLINE std::vector<std::size_t> DataLoader::order(std::int64_t epoch) const {
  std::vector<std::size_t> order(dataset_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (config_.shuffle) Random(mix(config_.seed, static_cast<std::uint64_t>(epoch))).shuffle(order);
  if (!config_.group_by_length) return order;
  // As the Trainer of transformers: within groups of 50 batches the longest come first, and the batch with the longest of all is the
  // first of the epoch, so that memory runs out at once or never.
  const auto length = [&](std::size_t i) { return dataset_[i].tokens(); };
  const std::size_t group = 50 * static_cast<std::size_t>(config_.batch_size);
  std::size_t longest = 0;
  for (std::size_t begin = 0; begin < order.size(); begin += group) {
    const auto first = order.begin() + static_cast<std::ptrdiff_t>(begin),
               last = order.begin() + static_cast<std::ptrdiff_t>(std::min(order.size(), begin + group));
    std::stable_sort(first, last, [&](std::size_t a, std::size_t b) { return length(a) > length(b); });
    if (length(*first) > length(order[longest])) longest = begin;
  }
  std::swap(order[0], order[longest]);
  return order;
}

PEFT_INLINE void DataLoader::check(Position position) const {
  if (position.epoch < 0 || position.step < 0 || position.step >= steps_per_epoch())
    throw Error("dataloader", "there is no step " + std::to_string(position.step) + " of epoch " + std::to_string(position.epoch) + "; an epoch has " +
                                  std::to_string(steps_per_epoch()) + " steps");
}

PEFT_INLINE Batch DataLoader::batch_of(const std::vector<std::size_t>& order, std::int64_t step) const {
  const auto begin = static_cast<std::size_t>(step * config_.batch_size);
  return collate(dataset_, std::span(order).subspan(begin, std::min(order.size() - begin, static_cast<std::size_t>(config_.batch_size))));
}

PEFT_INLINE Batch DataLoader::batch(Position position) const {
  check(position);
  return position.epoch == current_epoch_ ? batch_of(current_order_, position.step) : batch_of(order(position.epoch), position.step);
}

PEFT_INLINE Batch DataLoader::next() {
  if (position_.epoch != current_epoch_) current_order_ = order(position_.epoch), current_epoch_ = position_.epoch;
  Batch batch = batch_of(current_order_, position_.step);
  if (++position_.step == steps_per_epoch()) position_ = {position_.epoch + 1, 0};
  return batch;
}

PEFT_INLINE void DataLoader::seek(Position position) {
  check(position);
  position_ = position;
}

}  // namespace peft
