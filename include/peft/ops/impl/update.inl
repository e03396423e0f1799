// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <vector>

#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/update.hpp"

#define PEFT_KERNELS "peft/ops/impl/update_kernels.inl"
#include "peft/ops/impl/foreach_isa.hpp"

namespace peft::ops {

template <Scalar T>
void adamw_update(std::span<const AdamwTensor<T>> tensors) {
  // Rows begin … end of one tensor; a chunk is some of these pieces, so many elements that it is worth handing out.
  struct Piece {
    const AdamwTensor<T>* tensor;
    std::int64_t begin, end;
  };
  std::vector<Piece, PoolAllocator<Piece>> pieces;
  std::vector<std::int64_t, PoolAllocator<std::int64_t>> chunks = {0};
  std::int64_t elements = 0;
  for (const AdamwTensor<T>& t : tensors)
    for (std::int64_t begin = 0, grain = detail::row_grain(t.p.cols); begin < t.p.rows; begin += grain) {
      pieces.push_back({&t, begin, std::min(t.p.rows, begin + grain)});
      elements += (pieces.back().end - begin) * t.p.cols;
      if (elements >= detail::piece) chunks.push_back(std::int64_t(pieces.size())), elements = 0;
    }
  if (chunks.back() < std::int64_t(pieces.size())) chunks.push_back(std::int64_t(pieces.size()));
  parallel_for(std::int64_t(chunks.size()) - 1, [&](std::int64_t chunk) {
    for (std::int64_t k = chunks[std::size_t(chunk)]; k < chunks[std::size_t(chunk) + 1]; k++) {
      const auto& [t, begin, end] = pieces[std::size_t(k)];
      // 1 − β in double: 1 − float(0.999) is off by 5e-5 of itself.
      const AdamwStep& s = t->step;
      const T rest1 = T(1 - s.beta1), rest2 = T(1 - s.beta2);
      for (std::int64_t i = begin; i < end; i++)
        PEFT_DISPATCH(row_adamw<T>, t->p.row(i), t->m.row(i), t->v.row(i), t->g.row(i), T(s.decay), T(s.beta1), rest1, T(s.beta2), rest2, T(s.step_size),
                      T(s.root_bias2), T(s.eps), t->p.cols);
    }
  });
}
template <Scalar T>
void adamw_update(View<T> p, View<T> m, View<T> v, View<const T> g, const AdamwStep& step) {
  const AdamwTensor<T> one{p, m, v, g, step};
  adamw_update<T>(std::span(&one, 1));
}

template <Scalar T>
void sgd_update(View<T> p, View<T> buffer, View<const T> g, double lr, double momentum, double decay) {
  detail::each_row(p.rows, p.cols, [&](std::int64_t i) {
    const T* direction = g.row(i);
    if (buffer) {
      PEFT_DISPATCH(row_scale_add<T>, buffer.row(i), T(1), direction, T(momentum), p.cols);
      direction = buffer.row(i);
    }
    PEFT_DISPATCH(row_scale_add<T>, p.row(i), T(-lr), direction, T(decay), p.cols);
  });
}

}  // namespace peft::ops
