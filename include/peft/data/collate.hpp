// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "peft/data/example.hpp"

namespace peft {

/// Several sequences one after the other, without padding: a row of the model's activations is a token that exists.
struct Batch {
  struct Range {
    std::int64_t begin, end;  // tokens [begin, end) of the batch
    std::int64_t length() const { return end - begin; }
  };
  std::vector<std::int32_t> input_ids;         // (tokens)
  std::vector<std::int32_t> labels;            // (tokens), aligned with input_ids, ignore_index where nothing is learnt
  std::vector<Range> offsets;                  // one a sequence
  std::vector<std::int32_t> source_ids;        // of pairs: what the encoder reads,
  std::vector<Range> source_offsets;           // one a sequence; none where there are no sources
  std::vector<std::uint64_t> example;          // index of each sequence in its dataset: names it wherever it is packed
  std::vector<std::int32_t> token_types = {};  // (tokens), or none: all 0
  std::vector<float> targets = {};             // of whole sequences, as many of each
  std::int64_t num_labels = 0;                 // labels that count
  std::int64_t num_shifted_labels = 0;         // of these, the ones that are predicted: all of a pair, else those that have a token before them

  bool has_sources() const { return !source_offsets.empty(); }
  /// Those of sources included.
  std::int64_t tokens() const { return static_cast<std::int64_t>(input_ids.size() + source_ids.size()); }
  std::size_t size() const { return offsets.size(); }
};

/// The examples of these indices as one batch, in this order.
Batch collate(const Dataset& dataset, std::span<const std::size_t> indices);

/// The batch in parts of about `tokens` tokens each (0: in one), cut between sequences, as even as these allow.
std::vector<Batch> split(const Batch& batch, std::int64_t tokens);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/data/impl/collate.inl"
#endif
