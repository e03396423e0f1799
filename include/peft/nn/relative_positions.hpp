// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/functions/embedding.hpp"
#include "peft/nn/sequences.hpp"

namespace peft {

/// T5's bucket of a distance key − query (arXiv:1910.10683, Mesh TensorFlow's rule). In both directions: half of the buckets for keys ahead.
/// Of those left, n, the first half are of the distances 0 … n/2 − 1, the others grow as logarithms up to max_distance; further ones share
/// the last. Rounded as the reference rounds, in float.
std::int32_t relative_bucket(std::int64_t distance, bool bidirectional, std::int64_t buckets, std::int64_t max_distance);

/// A number for each head and bucket of distances, added to the scores of every layer of a stack.
template <Scalar T>
struct RelativePositions {
  Parameter<T> weight;  // (buckets, heads)
  std::int64_t max_distance = 128;
  bool bidirectional = false;
  std::string path{};

  /// (distances, heads) by distance; row zero(sequences) is of distance 0.
  Variable<T> table(const Sequences& sequences) const {
    Ids buckets;
    const std::int64_t ahead = bidirectional ? sequences.longest() : 1;
    for (std::int64_t distance = -zero(sequences); distance < std::max<std::int64_t>(ahead, 1); distance++)
      buckets.push_back(relative_bucket(distance, bidirectional, weight.shape()[0], max_distance));
    return embedding<T>(buckets, weight);
  }
  /// The furthest that a query looks back: keys of prefixes and caches are positions too.
  static std::int64_t zero(const Sequences& sequences) { return std::max<std::int64_t>(sequences.last_position(), 0); }
  static void describe(auto& self, auto&& visit) { visit("weight", self.weight); }
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/nn/impl/relative_positions.inl"
#endif
