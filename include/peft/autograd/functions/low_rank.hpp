// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "peft/autograd/parameter.hpp"
#include "peft/autograd/tape.hpp"
#include "peft/ops/elementwise.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/low_rank.hpp"

namespace peft {

/// The rows' names for dropout: an element is dropped by (key, row key, feature), wherever its row is packed.
using RowKeys = std::vector<std::uint64_t, PoolAllocator<std::uint64_t>>;

/// Inverted dropout of one call. p = 0: none.
struct Dropping {
  DropoutKey key;
  std::shared_ptr<const RowKeys> rows;
  explicit operator bool() const { return key.p > 0; }
};

/// y = x · mask / (1 − p); the mask is drawn again in backward, never stored.
template <Scalar T>
Variable<T> dropout(Variable<T> x, const Dropping& drop) {
  if (!drop) return x;
  const Gradient<T> dx = x.gradient();
  Tensor<T> in = std::move(x).release(), y = in.sole_holder() ? in : Tensor<T>(in.shape());
  ops::dropout<T>(y.view(), in.view(), drop.key, *drop.rows);
  in = {};
  return recorded(std::move(y), bool(dx), [dx, drop](Tensor<T> dy) {
    Tensor<T> g = dy.sole_holder() ? dy : Tensor<T>(dy.shape());
    ops::dropout<T>(g.view(), dy.view(), drop.key, *drop.rows);
    dy = {};
    dx.add(std::move(g));
  });
}

namespace detail {
// The dropped x, made anew wherever it is wanted.
template <Scalar T>
Tensor<T> dropped(const Tensor<T>& in, const Dropping& drop) {
  if (!drop) return in;
  Tensor<T> made(in.shape());
  ops::dropout<T>(made.view(), in.view(), drop.key, *drop.rows);
  return made;
}
}  // namespace detail

/// y += s · (drop(x) Aᵀ) Bᵀ, into y if nobody else holds it.  x (N, in), A (r, in), B (out, r), y (N, out).
/// Keeps x (or how to make it) and x Aᵀ (N, r); the dropped x is made again in backward.     (LoRA, arXiv:2106.09685)
template <Scalar T>
Variable<T> low_rank_update(Variable<T> y, const Variable<T>& x, const Parameter<T>& A, const Parameter<T>& B, T s, const Dropping& drop = {}) {
  if (A.shape()[1] != x.cols() || B.shape()[0] != y.cols() || A.shape()[0] != B.shape()[1])
    throw ShapeError("low_rank_update",
                     "x " + to_string(x.shape()) + ", A " + to_string(A.shape()) + ", B " + to_string(B.shape()) + ", y " + to_string(y.shape()));
  const Gradient<T> dy_in = y.gradient();
  Tensor<T> out = std::move(y).release();
  if (!out.sole_holder()) out = out.clone();
  Tensor<T> xa({x.rows(), A.shape()[0]});
  ops::low_rank_forward<T>(out.view(), xa.view(), detail::dropped<T>(x.value(), drop).view(), A.value().view(), B.value().view(), s);
  const bool wanted = dy_in || x.needs_grad() || A.requires_grad() || B.requires_grad();
  return recorded(std::move(out), wanted, [dy_in, dx = x.gradient(), x = A.requires_grad() ? x.kept() : Kept<T>(), A, B, xa, s, drop](Tensor<T> dy) {
    const Tensor<T> in = A.requires_grad() ? detail::dropped<T>(x.value(), drop) : Tensor<T>();
    const ops::GradSink<T> dA = A.gradient().sink(), dB = B.gradient().sink();
    if (dx && drop) {  // the gradient of the dropped x passes the same mask
      Tensor<T> g({dy.rows(), A.shape()[1]});
      ops::low_rank_backward<T>({g.view(), false}, dA, dB, dy.view(), in.view(), xa.view(), A.value().view(), B.value().view(), s);
      ops::dropout<T>(g.view(), g.view(), drop.key, *drop.rows);
      dx.add(std::move(g));
    } else {
      ops::low_rank_backward<T>(dx.sink(), dA, dB, dy.view(), in.view(), xa.view(), A.value().view(), B.value().view(), s);
    }
    dy_in.add(std::move(dy));
  });
}

/// y = x Wᵀ + b + s · (drop(x) Aᵀ) Bᵀ: `linear` and `low_rank_update` in one, whose second term meets the first while its tiles are in the cache,
/// forward and, without dropout, in dx = dy W + s · (dy B) A.
template <Scalar T>
Variable<T> linear_low_rank(const Variable<T>& x, const Parameter<T>& weight, const Parameter<T>& bias, const Parameter<T>& A, const Parameter<T>& B, T s,
                            const Dropping& drop = {}) {
  const ops::WeightView w = weight.view();
  if (w.cols != x.cols() || A.shape()[1] != x.cols() || B.shape()[0] != w.rows || A.shape()[0] != B.shape()[1])
    throw ShapeError("linear_low_rank",
                     "x " + to_string(x.shape()) + ", a weight " + to_string(weight.shape()) + ", A " + to_string(A.shape()) + ", B " + to_string(B.shape()));
  Shape shape = x.shape();
  shape[-1] = w.rows;
  Tensor<T> y(shape), xa({x.rows(), A.shape()[0]});
  ops::gemm<T>(T(1), detail::dropped<T>(x.value(), drop).view(), false, A.value().view(), true, T(0), xa.view());
  ops::linear_forward<T>(y.view(), x.view(), w, bias ? bias.value().data() : nullptr, false, {xa.view(), B.value().view(), false, s});
  const bool of_w = weight.requires_grad(), wanted = x.needs_grad() || of_w || bias.requires_grad() || A.requires_grad() || B.requires_grad();
  return recorded(std::move(y), wanted,
                  [dx = x.gradient(), x = of_w || A.requires_grad() ? x.kept() : Kept<T>(), in = x.cols(), weight, bias, A, B, xa, s, drop](Tensor<T> dy) {
                    const Tensor<T> kept = x.value();
                    const ops::GradSink<T> dA = A.gradient().sink(), dB = B.gradient().sink();
                    const Tensor<T> g = dx || dA ? Tensor<T>({dy.rows(), A.shape()[0]}) : Tensor<T>();
                    const Tensor<T> seen = dA ? detail::dropped<T>(kept, drop) : Tensor<T>();
                    ops::low_rank_gradients<T>(g ? g.view() : View<T>(), dA, dB, dy.view(), seen ? View<const T>(seen.view()) : View<const T>(), xa.view(),
                                               B.value().view(), s);
                    if (dx && drop) {  // the gradient of the dropped x passes the same mask
                      Tensor<T> through({dy.rows(), in});
                      ops::gemm<T>(T(1), g.view(), false, A.value().view(), false, T(0), through.view());
                      ops::dropout<T>(through.view(), through.view(), drop.key, *drop.rows);
                      dx.add(std::move(through));
                      ops::linear_backward_input<T>(dx.sink(), dy.view(), weight.view());
                    } else if (dx) {
                      ops::linear_backward_input<T>(dx.sink(), dy.view(), weight.view(), {g.view(), A.value().view(), true, T(1)});
                    }
                    if (weight.requires_grad() || bias.requires_grad())
                      ops::linear_backward_weight<T>(weight.gradient().sink(), bias.gradient().sink(), dy.view(),
                                                     kept ? View<const T>(kept.view()) : View<const T>(nullptr, dy.rows(), in));
                  });
}

}  // namespace peft
