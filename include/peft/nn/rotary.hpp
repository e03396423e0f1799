// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "peft/autograd/functions/rope.hpp"

namespace peft {

/// The angles of a model's rotary positions, computed for as many positions as anybody has asked for. Shared by all copies of a model.
template <Scalar T>
class Rotary {
 public:
  /// Fewer frequencies than pairs in a head: the rest of each head stays as it is. `scale` multiplies what is turned (YaRN).
  Rotary(std::vector<double> frequencies, std::int64_t head_dim, bool interleaved, double scale = 1) : frequencies_(std::move(frequencies)), scale_(scale) {
    table_.head_dim = head_dim, table_.interleaved = interleaved;
  }
  /// Frequencies that depend on the length of the longest sequence, where it is longer than `limit`: dynamic scaling.
  void stretch_beyond(std::int64_t limit, std::function<std::vector<double>(std::int64_t)> frequencies) { limit_ = limit, stretched_ = std::move(frequencies); }
  /// A table that holds at least `positions` rows, of a forward whose longest sequence ends there.
  RotaryTable<T> table(std::int64_t positions) {
    std::lock_guard lock(mutex_);
    if (stretched_ && positions > limit_) {
      if (positions == long_positions_) return long_table_;
      const std::vector<double> frequencies = stretched_(positions);
      const Shape shape{positions, std::int64_t(frequencies.size())};
      long_table_ = table_, long_table_.cos = Tensor<T>(shape), long_table_.sin = Tensor<T>(shape), long_positions_ = positions;
      ops::rope_table<T>(long_table_.cos.view(), long_table_.sin.view(), frequencies, T(scale_));
      return long_table_;
    }
    if (!table_.cos || table_.cos.rows() < positions) {
      std::int64_t n = 256;
      while (n < positions) n *= 2;
      const Shape shape{n, std::int64_t(frequencies_.size())};
      table_.cos = Tensor<T>(shape), table_.sin = Tensor<T>(shape);
      ops::rope_table<T>(table_.cos.view(), table_.sin.view(), frequencies_, T(scale_));
    }
    return table_;
  }
  const std::vector<double>& frequencies() const { return frequencies_; }

 private:
  std::vector<double> frequencies_;  // one a pair, in radians a position
  double scale_;
  RotaryTable<T> table_;
  std::int64_t limit_ = 0, long_positions_ = 0;
  std::function<std::vector<double>(std::int64_t)> stretched_;  // none: one table for all
  RotaryTable<T> long_table_;                                   // of the last such length
  std::mutex mutex_;
};

}  // namespace peft
