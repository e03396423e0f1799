// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "peft/autograd/functions/elementwise.hpp"
#include "peft/autograd/functions/embedding.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/matrix.hpp"

namespace peft {

// Products that adapters compose their weights of. Inputs are contiguous where a shape is changed.

/// y = op(a) op(b), op transposing where it is asked to.
template <Scalar T>
Variable<T> matmul(const Variable<T>& a, const Variable<T>& b, bool transpose_a = false, bool transpose_b = false) {
  const std::int64_t m = transpose_a ? a.cols() : a.rows(), k = transpose_a ? a.rows() : a.cols();
  const std::int64_t n = transpose_b ? b.rows() : b.cols(), inner = transpose_b ? b.cols() : b.rows();
  if (k != inner) throw ShapeError("matmul", to_string(a.shape()) + (transpose_a ? "ᵀ" : "") + " and " + to_string(b.shape()) + (transpose_b ? "ᵀ" : ""));
  Tensor<T> y({m, n});
  ops::gemm<T>(T(1), a.view(), transpose_a, b.view(), transpose_b, T(0), y.view());
  return recorded(std::move(y), a.needs_grad() || b.needs_grad(),
                  [da = a.gradient(), db = b.gradient(), a = b.needs_grad() ? a.value() : Tensor<T>(), b = a.needs_grad() ? b.value() : Tensor<T>(),
                   transpose_a, transpose_b](Tensor<T> dy) {
                    if (da) {
                      const ops::GradSink<T> sink = da.sink();
                      const T beta = sink.accumulate ? T(1) : T(0);
                      if (transpose_a)
                        ops::gemm<T>(T(1), b.view(), transpose_b, dy.view(), true, beta, sink.view);
                      else
                        ops::gemm<T>(T(1), dy.view(), false, b.view(), !transpose_b, beta, sink.view);
                    }
                    if (db) {
                      const ops::GradSink<T> sink = db.sink();
                      const T beta = sink.accumulate ? T(1) : T(0);
                      if (transpose_b)
                        ops::gemm<T>(T(1), dy.view(), true, a.view(), transpose_a, beta, sink.view);
                      else
                        ops::gemm<T>(T(1), a.view(), !transpose_a, dy.view(), false, beta, sink.view);
                    }
                  });
}

/// y += alpha · x Wᵀ, into y if nobody else holds it: x (N, in), W (out, in), y (N, out). Keeps x and W.
template <Scalar T>
Variable<T> add_product(Variable<T> y, const Variable<T>& x, const Variable<T>& W, T alpha = 1) {
  if (x.cols() != W.cols() || y.cols() != W.rows() || x.rows() != y.rows())
    throw ShapeError("add_product", "y " + to_string(y.shape()) + ", x " + to_string(x.shape()) + ", W " + to_string(W.shape()));
  const Gradient<T> dy_in = y.gradient();
  Tensor<T> out = std::move(y).release();
  if (!out.sole_holder()) out = out.clone();
  ops::gemm<T>(alpha, x.view(), false, W.view(), true, T(1), out.view());
  return recorded(std::move(out), dy_in || x.needs_grad() || W.needs_grad(),
                  [dy_in, dx = x.gradient(), dW = W.gradient(), x = W.needs_grad() ? x.value() : Tensor<T>(), W = x.needs_grad() ? W.value() : Tensor<T>(),
                   alpha](Tensor<T> dy) {
                    if (dx) {
                      const ops::GradSink<T> sink = dx.sink();
                      ops::gemm<T>(alpha, dy.view(), false, W.view(), false, sink.accumulate ? T(1) : T(0), sink.view);
                    }
                    if (dW) {
                      const ops::GradSink<T> sink = dW.sink();
                      ops::gemm<T>(alpha, dy.view(), true, x.view(), false, sink.accumulate ? T(1) : T(0), sink.view);
                    }
                    dy_in.add(std::move(dy));
                  });
}

/// y[b] = x[b]⁻¹ of square matrices (B, n, n).  dx = −yᵀ dy yᵀ
template <Scalar T>
Variable<T> inverse(const Variable<T>& x) {
  const std::int64_t n = x.cols(), blocks = x.rows() / n;
  Tensor<T> y(x.shape());
  for (std::int64_t b = 0; b < blocks; b++) ops::invert<T>(y.view().row_range(b * n, (b + 1) * n), x.view().row_range(b * n, (b + 1) * n));
  return recorded(y, x.needs_grad(), [dx = x.gradient(), y, n, blocks](Tensor<T> dy) {
    const ops::GradSink<T> sink = dx.sink();
    Tensor<T> half({n, n});
    for (std::int64_t b = 0; b < blocks; b++) {
      const View<T> inv = y.view().row_range(b * n, (b + 1) * n);
      ops::gemm<T>(T(1), inv, true, dy.view().row_range(b * n, (b + 1) * n), false, T(0), half.view());
      ops::gemm<T>(T(-1), half.view(), false, inv, true, sink.accumulate ? T(1) : T(0), sink.view.row_range(b * n, (b + 1) * n));
    }
  });
}

/// y[b] = a[b] c[b]: a (B, m, k), c (B, k, n).
template <Scalar T>
Variable<T> batched_matmul(const Variable<T>& a, const Variable<T>& c) {
  const std::int64_t blocks = a.shape()[0], m = a.shape()[1], k = a.shape()[2], n = c.shape()[2];
  if (c.shape()[0] != blocks || c.shape()[1] != k) throw ShapeError("batched_matmul", to_string(a.shape()) + " and " + to_string(c.shape()));
  Tensor<T> y({blocks, m, n});
  for (std::int64_t b = 0; b < blocks; b++)
    ops::gemm<T>(T(1), a.view().row_range(b * m, (b + 1) * m), false, c.view().row_range(b * k, (b + 1) * k), false, T(0),
                 y.view().row_range(b * m, (b + 1) * m));
  return recorded(
      std::move(y), a.needs_grad() || c.needs_grad(), [da = a.gradient(), dc = c.gradient(), a = a.value(), c = c.value(), blocks, m, k](Tensor<T> dy) {
        const ops::GradSink<T> sa = da.sink(), sc = dc.sink();
        for (std::int64_t b = 0; b < blocks; b++) {
          const View<T> g = dy.view().row_range(b * m, (b + 1) * m);
          if (sa)
            ops::gemm<T>(T(1), g, false, c.view().row_range(b * k, (b + 1) * k), true, sa.accumulate ? T(1) : T(0), sa.view.row_range(b * m, (b + 1) * m));
          if (sc)
            ops::gemm<T>(T(1), a.view().row_range(b * m, (b + 1) * m), true, g, false, sc.accumulate ? T(1) : T(0), sc.view.row_range(b * k, (b + 1) * k));
        }
      });
}

/// Each of the B parts of x's columns times a matrix of its own: y (N, B n), x (N, B k), R (B, k, n).
template <Scalar T>
Variable<T> multiply_blocks(const Variable<T>& x, const Variable<T>& R) {
  const std::int64_t blocks = R.shape()[0], k = R.shape()[1], n = R.shape()[2];
  if (x.cols() != blocks * k) throw ShapeError("multiply_blocks", to_string(x.shape()) + " by blocks " + to_string(R.shape()));
  Tensor<T> y({x.rows(), blocks * n});
  for (std::int64_t b = 0; b < blocks; b++)
    ops::gemm<T>(T(1), x.view().columns(b * k, (b + 1) * k), false, R.view().row_range(b * k, (b + 1) * k), false, T(0), y.view().columns(b * n, (b + 1) * n));
  return recorded(
      std::move(y), x.needs_grad() || R.needs_grad(),
      [dx = x.gradient(), dR = R.gradient(), x = R.needs_grad() ? x.value() : Tensor<T>(), R = R.value(), blocks, k, n](Tensor<T> dy) {
        const ops::GradSink<T> sx = dx.sink(), sR = dR.sink();
        for (std::int64_t b = 0; b < blocks; b++) {
          const View<T> g = dy.view().columns(b * n, (b + 1) * n);
          if (sx) ops::gemm<T>(T(1), g, false, R.view().row_range(b * k, (b + 1) * k), true, sx.accumulate ? T(1) : T(0), sx.view.columns(b * k, (b + 1) * k));
          if (sR) ops::gemm<T>(T(1), x.view().columns(b * k, (b + 1) * k), true, g, false, sR.accumulate ? T(1) : T(0), sR.view.row_range(b * k, (b + 1) * k));
        }
      });
}

/// y = a ⊗ b
template <Scalar T>
Variable<T> kronecker(const Variable<T>& a, const Variable<T>& b) {
  Tensor<T> y({a.rows() * b.rows(), a.cols() * b.cols()});
  ops::kronecker<T>(y.view(), a.view(), b.view());
  return recorded(std::move(y), a.needs_grad() || b.needs_grad(), [da = a.gradient(), db = b.gradient(), a = a.value(), b = b.value()](Tensor<T> dy) {
    ops::kronecker_backward<T>(da ? da.sum_or_zeros() : View<T>(), db ? db.sum_or_zeros() : View<T>(), dy.view(), a.view(), b.view());
  });
}

/// alpha times a matrix of circulant blocks: y[m b + p, n b + q] = alpha · kernel[m, n, (q − p) mod b], kernel (M, N, b).
template <Scalar T>
Variable<T> circulant(const Variable<T>& kernel, T alpha = 1) {
  const std::int64_t b = kernel.shape()[2];
  Tensor<T> y({kernel.shape()[0] * b, kernel.shape()[1] * b});
  ops::circulant<T>(y.view(), kernel.value().data(), b, alpha);
  return recorded(std::move(y), kernel.needs_grad(), [dk = kernel.gradient(), shape = kernel.shape(), b, alpha](Tensor<T> dy) {
    Tensor<T> g = Tensor<T>::zeros(shape);
    ops::circulant_backward<T>(g.data(), dy.view(), b, alpha);
    dk.add(std::move(g));
  });
}

/// ‖x‖, one number; no gradient at 0.
template <Scalar T>
Variable<T> frobenius_norm(const Variable<T>& x) {
  const T norm = T(std::sqrt(ops::sum_of_squares<T>(x.view())));
  Tensor<T> y(Shape{});
  y[0] = norm;
  return recorded(std::move(y), x.needs_grad(), [dx = x.gradient(), x = x.value(), norm](Tensor<T> dy) {
    Tensor<T> g(x.shape());
    ops::scale<T>(g.view(), norm > 0 ? dy[0] / norm : T(0), x.view());
    dx.add(std::move(g));
  });
}

/// A matrix and its transpose.
template <Scalar T>
Variable<T> transpose(const Variable<T>& x) {
  Tensor<T> y({x.cols(), x.rows()});
  for (std::int64_t i = 0; i < x.rows(); i++)
    for (std::int64_t j = 0; j < x.cols(); j++) y(j, i) = x.value()(i, j);
  return recorded(std::move(y), x.needs_grad(), [dx = x.gradient(), shape = x.shape()](Tensor<T> dy) {
    Tensor<T> g(shape);
    for (std::int64_t i = 0; i < g.rows(); i++)
      for (std::int64_t j = 0; j < g.cols(); j++) g(i, j) = dy(j, i);
    dx.add(std::move(g));
  });
}

/// y += x Sᵀ for a sparse S of which `values` (K) train; into y if nobody else holds it. S is written out for the time of a product: multiply-adds
/// on registers cost less than entries picked singly, but for the few rows of decoding.
template <Scalar T>
Variable<T> sparse_update(Variable<T> y, const Variable<T>& x, const Variable<T>& values, std::shared_ptr<const ops::SparsePlaces> at) {
  const Gradient<T> dy_in = y.gradient();
  const Shape shape{y.cols(), x.cols()};
  Tensor<T> out = std::move(y).release();
  if (!out.sole_holder()) out = out.clone();
  const auto written_out = [at, shape](const Tensor<T>& entries) {
    Tensor<T> S = Tensor<T>::zeros(shape);
    ops::add_entries<T>(S.view(), entries.data(), *at);
    return S;
  };
  constexpr std::int64_t few = 4;
  if (x.rows() <= few)
    ops::sparse_update<T>(out.view(), x.view(), values.value().data(), *at);
  else
    ops::gemm<T>(T(1), x.view(), false, written_out(values.value()).view(), true, T(1), out.view());
  return recorded(std::move(out), dy_in || x.needs_grad() || values.needs_grad(),
                  [dy_in, dx = x.gradient(), dv = values.gradient(), x = values.needs_grad() ? x.value() : Tensor<T>(),
                   values = x.needs_grad() ? values.value() : Tensor<T>(), at, shape, written_out](Tensor<T> dy) {
                    if (dx) {
                      const ops::GradSink<T> sink = dx.sink();
                      ops::gemm<T>(T(1), dy.view(), false, written_out(values).view(), false, sink.accumulate ? T(1) : T(0), sink.view);
                    }
                    if (dv) {
                      Tensor<T> dS(shape), g({std::int64_t(at->row.size())});
                      ops::gemm<T>(T(1), dy.view(), true, x.view(), false, T(0), dS.view());
                      ops::take_entries<T>(g.data(), dS.view(), *at);
                      dv.add(std::move(g));
                    }
                    dy_in.add(std::move(dy));
                  });
}

}  // namespace peft
