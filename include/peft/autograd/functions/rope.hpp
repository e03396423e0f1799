// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/functions/embedding.hpp"
#include "peft/autograd/tape.hpp"
#include "peft/ops/rope.hpp"

namespace peft {

/// What rotation a model uses: angles of positions 0 … limit - 1. Grown by whoever meets a larger position.
template <Scalar T>
struct RotaryTable {
  Tensor<T> cos, sin;  // (positions, rotary / 2)
  std::int64_t head_dim = 0;
  bool interleaved = false;
};

/// x (N, heads · head_dim) turned by its rows' positions; in place if nobody else holds x. Backward turns the gradient back; nothing of x is kept.
template <Scalar T>
Variable<T> rope(Variable<T> x, std::shared_ptr<const Ids> positions, const RotaryTable<T>& table) {
  const Gradient<T> dx = x.gradient();
  Tensor<T> y = std::move(x).release();
  if (!y.sole_holder()) y = y.clone();
  ops::rope<T>(y.view(), *positions, table.cos.view(), table.sin.view(), table.head_dim, table.interleaved, false);
  return recorded(std::move(y), bool(dx), [dx, positions, table](Tensor<T> dy) {
    Tensor<T> g = dy.sole_holder() ? std::move(dy) : dy.clone();
    dy = {};
    ops::rope<T>(g.view(), *positions, table.cos.view(), table.sin.view(), table.head_dim, table.interleaved, true);
    dx.add(std::move(g));
  });
}

}  // namespace peft
