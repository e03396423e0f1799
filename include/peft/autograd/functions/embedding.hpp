// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "peft/autograd/parameter.hpp"
#include "peft/autograd/tape.hpp"
#include "peft/ops/embedding.hpp"

namespace peft {

using Ids = std::vector<std::int32_t, PoolAllocator<std::int32_t>>;

/// y (N, C): row n is scale · W[ids[n]].  dW[ids[n]] += scale · dy[n], except in the padding row, as torch does.
template <Scalar T>
Variable<T> embedding(std::span<const std::int32_t> ids, const Parameter<T>& weight, T scale = 1, std::int32_t padding = -1) {
  Tensor<T> y({std::int64_t(ids.size()), weight.shape()[1]});
  ops::embedding_forward<T>(y.view(), ids, weight.view(), scale);
  if (!recording(weight.requires_grad())) return Variable<T>(std::move(y));
  return recorded(std::move(y), true, [weight, scale, padding, ids = Ids(ids.begin(), ids.end())](Tensor<T> dy) {
    ops::embedding_backward<T>(weight.gradient().sink(), dy.view(), ids, scale, padding);
  });
}

}  // namespace peft
