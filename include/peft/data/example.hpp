// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "peft/core/config.hpp"
#include "peft/core/labels.hpp"

namespace peft {

/// One sequence. labels[i] is input_ids[i] where token i is to be learnt, else ignore_index: aligned, not shifted, as in Hugging Face. (To
/// predict token i from those before it is the objective's business.) Of a pair, for an encoder-decoder, these are the target's, and the encoder
/// reads source_ids; every label counts then, the first one too.
struct Example {
  std::vector<std::int32_t> input_ids;
  std::vector<std::int32_t> labels;
  std::vector<std::int32_t> source_ids = {};
  std::vector<std::int32_t> token_types = {};  // segment of each token, for models that know segments; none: all 0
  std::vector<float> targets = {};             // of the whole sequence: the number of its class, or what regression is to give

  std::int64_t tokens() const { return static_cast<std::int64_t>(input_ids.size() + source_ids.size()); }
};

/// A pair from Hugging Face's form of it: `source_ids`, and the target's labels, filled up with ignore_index. The filling goes; a label that is left out
/// among others is read by the decoder as `pad_token_id`, as there. Throws Error if one side is empty.
Example pair_example(std::vector<std::int32_t> source_ids, std::vector<std::int32_t> labels, std::int32_t pad_token_id = 0);

/// What happened while a file became a dataset.
struct DatasetReport {
  std::string format;                         // which of the row formats
  std::int64_t rows = 0;                      // rows of the file
  std::int64_t truncated = 0;                 // examples cut at max_length
  std::int64_t dropped = 0;                   // rows of which nothing to learn was left
  std::vector<std::string> label_names = {};  // of classes, by their numbers
};

/// Examples. A cheap handle of shared, immutable data.
class Dataset {
 public:
  Dataset() : Dataset(std::vector<Example>{}) {}
  /// Throws Error if an example is empty, if its labels are not as many as its tokens, if some examples have sources and others none, or if examples differ
  /// in how many targets they have.
  explicit Dataset(std::vector<Example> examples, DatasetReport report = {});

  std::size_t size() const { return data_->examples.size(); }
  bool empty() const { return size() == 0; }
  const Example& operator[](std::size_t i) const { return data_->examples[i]; }
  auto begin() const { return data_->examples.begin(); }
  auto end() const { return data_->examples.end(); }

  /// True if its examples are pairs, for an encoder-decoder.
  bool has_sources() const { return !empty() && !data_->examples[0].source_ids.empty(); }
  /// Those of sources included.
  std::int64_t tokens() const { return data_->tokens; }
  /// Labels that count.
  std::int64_t trained_tokens() const { return data_->trained_tokens; }
  /// Tokens of the longest example, of both sides where it is a pair.
  std::int64_t longest() const { return data_->longest; }
  const DatasetReport& report() const { return data_->report; }
  /// `420 examples, 22,538 tokens (9,103 trained on), longest 71`
  std::string summary() const;
  /// The examples of these indices, in this order.
  Dataset subset(const std::vector<std::size_t>& indices) const;

 private:
  struct Data {
    std::vector<Example> examples;
    std::int64_t tokens = 0, trained_tokens = 0, longest = 0;
    DatasetReport report;
  };
  std::shared_ptr<const Data> data_;
};

struct TrainTestSplit {
  Dataset train, test;
};

/// Puts ⌈fraction · size⌉ examples, drawn by the seed, into `test`; both parts keep the dataset's order. Throws ConfigError unless 0 < fraction < 1 leaves
/// both parts at least one example.
TrainTestSplit train_test_split(const Dataset& dataset, double fraction, std::uint64_t seed = 0);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/data/impl/example.inl"
#endif
