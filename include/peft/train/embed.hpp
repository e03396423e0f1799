// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "peft/data/labelled.hpp"
#include "peft/ops/elementwise.hpp"
#include "peft/ops/matrix.hpp"
#include "peft/train/classification.hpp"

namespace peft {

/// Which hidden states of a text make its vector: the mean over its tokens, the first one's ([CLS]), or the last one's.
enum class TextPooling { mean, first, last };

struct EmbedOptions {
  TextPooling pooling = TextPooling::mean;
  bool normalize = true;        // to length 1: then a scalar product is a cosine
  std::int64_t max_length = 0;  // tokens of a text; 0: as many as the model has positions
  std::int64_t tokens_per_batch = 1024;
};

/// A vector for each example (examples, hidden_size), from the hidden states behind the last norm, as sentence-transformers makes them. Virtual tokens
/// in front of a text do not count among its own.
template <class M>
Tensor<scalar_of<M>> embed(const M& model, const Dataset& dataset, const EmbedOptions& options = {}) {
  using T = scalar_of<M>;
  const NoGrad guard;
  Tensor<T> y = Tensor<T>::zeros({std::int64_t(dataset.size()), transformer_of(model).config.hidden_size});
  detail::for_each_batch(dataset, options.tokens_per_batch, [&](const std::vector<std::size_t>& indices, const Batch& batch) {
    detail::at_hidden_states(model, batch, {}, nullptr, [&](const Variable<T>& hidden, const std::vector<std::int64_t>& place) {
      const View<const T> h = hidden.value().view();
      for (std::size_t i = 0; i < batch.size(); i++) {
        const auto n = batch.offsets[i].length(), first = place[std::size_t(batch.offsets[i].begin)];
        const auto row = std::int64_t(indices[i]), begin = options.pooling == TextPooling::last ? first + n - 1 : first,
                   end = options.pooling == TextPooling::first ? first + 1 : first + n;
        for (std::int64_t j = begin; j < end; j++) ops::axpy<T>(y.view().row_range(row, row + 1), T(1) / T(end - begin), h.row_range(j, j + 1));
      }
    });
  });
  detail::check_measured("embed", "a vector", ops::all_finite(y.view()));
  if (!options.normalize) return y;
  Tensor<T> length = Tensor<T>::zeros({y.rows()});
  ops::add_row_dots<T>(length.data(), y.view(), y.view());
  for (T& l : length.span()) l = T(1) / std::max(std::sqrt(l), T(1e-12));
  ops::scale_rows<T>(y.view(), y.view(), length.data());
  return y;
}

/// The same of texts, with what the tokenizer puts around them.
template <class M>
Tensor<scalar_of<M>> embed(const M& model, const Tokenizer& tokenizer, std::span<const std::string> texts, const EmbedOptions& options = {}) {
  const std::int64_t max_length = options.max_length > 0 ? options.max_length : transformer_of(model).config.max_position_embeddings;
  std::vector<Example> examples;
  for (const std::string& text : texts) examples.push_back(encode_sequence(text, {}, tokenizer, max_length > 0 ? max_length : 512));
  return embed(model, Dataset(std::move(examples)), options);
}

}  // namespace peft
