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

/// y += x Sᵀ for a sparse S of which `values` (K) train; into y if nobody else holds it.
template <Scalar T>
Variable<T> sparse_update(Variable<T> y, const Variable<T>& x, const Variable<T>& values, std::shared_ptr<const ops::SparsePlaces> at) {
  const Gradient<T> dy_in = y.gradient();
  Tensor<T> out = std::move(y).release();
  if (!out.sole_holder()) out = out.clone();
  ops::sparse_update<T>(out.view(), x.view(), values.value().data(), *at);
  return recorded(std::move(out), dy_in || x.needs_grad() || values.needs_grad(),
                  [dy_in, dx = x.gradient(), dv = values.gradient(), x = x.value(), values = values.value(), at](Tensor<T> dy) {
                    Tensor<T> g = dv ? Tensor<T>::zeros(values.shape()) : Tensor<T>();
                    ops::sparse_update_backward<T>(dx ? dx.sum_or_zeros() : View<T>(), g.data(), dy.view(), x.view(), values.data(), *at);
                    if (dv) dv.add(std::move(g));
                    dy_in.add(std::move(dy));
                  });
}

/// The real part of the inverse discrete Fourier transform of a spectrum (out, in) that is zero but for `values` (K) at (u[k], v[k]):
///     y(p, q) = 1/(out · in) Σ_k values[k] cos(2π (u[k] p / out + v[k] q / in))
/// cos(a + b) = cos a cos b − sin a sin b makes it a product of rank 2 K.
template <Scalar T>
Variable<T> sparse_inverse_fourier(const Variable<T>& values, std::shared_ptr<const std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>>> at,
                                   std::int64_t out, std::int64_t in) {
  const std::int64_t K = values.value().size();
  const auto columns_of = [K](const std::vector<std::int64_t>& place, std::int64_t n) {
    Tensor<T> columns({n, 2 * K});
    ops::fourier_columns<T>(columns.view(), place);
    return columns;
  };
  const T factor = T(1) / (T(out) * T(in));
  Tensor<T> signed_values({2 * K}), y({out, in});
  for (std::int64_t k = 0; k < K; k++) signed_values[k] = factor * values.value()[k], signed_values[K + k] = -factor * values.value()[k];
  {
    const Tensor<T> left = columns_of(at->first, out);
    ops::scale_columns<T>(left.view(), left.view(), signed_values.data());
    ops::gemm<T>(T(1), left.view(), false, columns_of(at->second, in).view(), true, T(0), y.view());
  }
  return recorded(std::move(y), values.needs_grad(), [dv = values.gradient(), at, columns_of, factor, K, out, in](Tensor<T> dy) {
    Tensor<T> half({out, 2 * K}), both = Tensor<T>::zeros({2 * K}), g({K});
    ops::gemm<T>(T(1), dy.view(), false, columns_of(at->second, in).view(), false, T(0), half.view());
    ops::add_column_dots<T>(both.data(), half.view(), columns_of(at->first, out).view());
    for (std::int64_t k = 0; k < K; k++) g[k] = factor * (both[k] - both[K + k]);
    dv.add(std::move(g));
  });
}

}  // namespace peft
