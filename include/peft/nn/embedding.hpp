// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/functions/embedding.hpp"
#include "peft/nn/adapter_slot.hpp"

namespace peft {

/// y (N, embedding_dim): row n is scale · weight[ids[n]]. An id ≥ num_embeddings is a virtual token: an adapter answers for it.
template <Scalar T>
struct Embedding {
  using Scalar_ = T;
  using Input = std::span<const std::int32_t>;
  using Output = Variable<T>;
  Parameter<T> weight;            // (num_embeddings, embedding_dim)
  T scale = 1;                    // Gemma multiplies by √hidden_size
  std::int32_t padding_idx = -1;  // this row gets no gradient, as in torch
  std::string path{};
  AdapterSlot<Embedding> adapters{};

  std::int64_t num_embeddings() const { return weight.shape()[0]; }
  std::int64_t embedding_dim() const { return weight.shape()[1]; }
  Variable<T> forward(const Input& ids) const { return embedding<T>(ids, weight, scale, padding_idx); }
  Variable<T> operator()(const Input& ids) const { return adapters(*this, ids); }
  Embedding dense() const { return {Parameter<T>(weight.dense()), scale, padding_idx, path}; }

  static Input rows(const Input& ids, std::int64_t begin, std::int64_t end) { return ids.subspan(std::size_t(begin), std::size_t(end - begin)); }
  static void describe(auto& self, auto&& visit) { visit("weight", self.weight); }
};

}  // namespace peft
