// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "peft/autograd/functions/elementwise.hpp"
#include "peft/autograd/functions/embedding.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/matrix.hpp"

namespace peft {

// What adapters compose their small matrices of. Inputs are contiguous where a shape is changed.

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

/// y of `shape`, y[i] = sign[i] · x[from[i]]: permutations, tiles, triangles. A map is shared by all calls of a site.
template <Scalar T>
Variable<T> gather(const Variable<T>& x, std::shared_ptr<const ops::GatherMap> map, const Shape& shape) {
  const Tensor<T> in = x.value().contiguous() ? x.value() : x.value().clone();
  Tensor<T> y(shape);
  ops::gather<T>(y.span(), in.span(), *map);
  return recorded(std::move(y), x.needs_grad(), [dx = x.gradient(), map, from = x.shape()](Tensor<T> dy) {
    if (!dy.contiguous()) dy = dy.clone();
    Tensor<T> g = Tensor<T>::zeros(from);
    ops::gather_backward<T>(g.span(), dy.span(), *map);
    dx.add(std::move(g));
  });
}

/// y = x ∘ c: c (C) scales the columns of x (N, C).
template <Scalar T>
Variable<T> scale_columns(const Variable<T>& x, const Variable<T>& c) {
  if (c.value().size() != x.cols()) throw ShapeError("scale_columns", to_string(x.shape()) + " by " + to_string(c.shape()));
  Tensor<T> y(x.shape());
  ops::scale_columns<T>(y.view(), x.view(), c.value().data());
  return recorded(std::move(y), x.needs_grad() || c.needs_grad(),
                  [dx = x.gradient(), dc = c.gradient(), x = c.needs_grad() ? x.value() : Tensor<T>(), c = c.value()](Tensor<T> dy) {
                    if (dc) {
                      Tensor<T> g = Tensor<T>::zeros(c.shape());
                      ops::add_column_dots<T>(g.data(), dy.view(), x.view());
                      dc.add(std::move(g));
                    }
                    if (dx) {
                      Tensor<T> g = dy.sole_holder() ? dy : Tensor<T>(dy.shape());
                      ops::scale_columns<T>(g.view(), dy.view(), c.data());
                      dy = {};
                      dx.add(std::move(g));
                    }
                  });
}
/// y row i = r[i] · x row i.
template <Scalar T>
Variable<T> scale_rows(const Variable<T>& x, const Variable<T>& r) {
  if (r.value().size() != x.rows()) throw ShapeError("scale_rows", to_string(x.shape()) + " by " + to_string(r.shape()));
  Tensor<T> y(x.shape());
  ops::scale_rows<T>(y.view(), x.view(), r.value().data());
  return recorded(std::move(y), x.needs_grad() || r.needs_grad(),
                  [dx = x.gradient(), dr = r.gradient(), x = r.needs_grad() ? x.value() : Tensor<T>(), r = r.value()](Tensor<T> dy) {
                    if (dr) {
                      Tensor<T> g = Tensor<T>::zeros(r.shape());
                      ops::add_row_dots<T>(g.data(), dy.view(), x.view());
                      dr.add(std::move(g));
                    }
                    if (dx) {
                      Tensor<T> g(dy.shape());
                      ops::scale_rows<T>(g.view(), dy.view(), r.data());
                      dx.add(std::move(g));
                    }
                  });
}
/// y = x + alpha · c in every row, c a constant (a frozen bias); into x if nobody else holds it.
template <Scalar T>
Variable<T> add_constant_row(Variable<T> x, T alpha, const Tensor<T>& c) {
  const Gradient<T> dx = x.gradient();
  Tensor<T> y = std::move(x).release();
  if (!y.sole_holder()) y = y.clone();
  ops::add_to_rows<T>(y.view(), alpha, c.data());
  return recorded(std::move(y), bool(dx), [dx](Tensor<T> dy) { dx.add(std::move(dy)); });
}

/// y[i] = f(x[i]), with df(x, y) = dy/dx.
template <Scalar T, class F, class D>
Variable<T> pointwise(const Variable<T>& x, F f, D df) {
  const Tensor<T> in = x.value().contiguous() ? x.value() : x.value().clone();
  Tensor<T> y(x.shape());
  for (std::int64_t i = 0; i < y.size(); i++) y[i] = f(in[i]);
  return recorded(y, x.needs_grad(), [dx = x.gradient(), in, y, df](Tensor<T> dy) {
    Tensor<T> g = dy.clone();
    for (std::int64_t i = 0; i < g.size(); i++) g[i] *= df(in[i], y[i]);
    dx.add(std::move(g));
  });
}
template <Scalar T>
Variable<T> cos(const Variable<T>& x) {
  return pointwise(
      x, [](T v) { return std::cos(v); }, [](T v, T) { return -std::sin(v); });
}
template <Scalar T>
Variable<T> sin(const Variable<T>& x) {
  return pointwise(
      x, [](T v) { return std::sin(v); }, [](T v, T) { return std::cos(v); });
}
template <Scalar T>
Variable<T> reciprocal(const Variable<T>& x) {
  return pointwise(
      x, [](T v) { return 1 / v; }, [](T, T y) { return -y * y; });
}
template <Scalar T>
Variable<T> sigmoid(const Variable<T>& x) {
  return pointwise(
      x, [](T v) { return 1 / (1 + std::exp(-v)); }, [](T, T y) { return y * (1 - y); });
}

/// (R): ‖row‖₂, not below `least`; a norm below it gets no gradient, as torch's clamp gives none.
template <Scalar T>
Variable<T> row_norms(const Variable<T>& x, T least = 0) {
  Tensor<T> y = Tensor<T>::zeros({x.rows()});
  ops::add_row_dots<T>(y.data(), x.view(), x.view());
  Tensor<T> slope(y.shape());  // of the row's direction
  for (std::int64_t i = 0; i < y.size(); i++) {
    const T norm = std::sqrt(y[i]);
    y[i] = std::max(norm, least), slope[i] = norm < least || norm == 0 ? T(0) : 1 / norm;
  }
  return recorded(std::move(y), x.needs_grad(), [dx = x.gradient(), x = x.value(), slope](Tensor<T> dy) {
    Tensor<T> g(x.shape());
    for (std::int64_t i = 0; i < dy.size(); i++) slope[i] *= dy[i];
    ops::scale_rows<T>(g.view(), x.view(), slope.data());
    dx.add(std::move(g));
  });
}
template <Scalar T>
Variable<T> softmax_rows(const Variable<T>& x) {
  Tensor<T> y(x.shape());
  ops::softmax_rows<T>(y.view(), x.view());
  return recorded(y, x.needs_grad(), [dx = x.gradient(), y](Tensor<T> dy) { ops::softmax_rows_backward<T>(dx.sum_or_zeros(), dy.view(), y.view()); });
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

/// y = x + alpha · c in every row; c (C) gets alpha · Σ_n dy.
template <Scalar T>
Variable<T> add_row(Variable<T> x, T alpha, const Variable<T>& c) {
  if (c.value().size() != x.cols()) throw ShapeError("add_row", to_string(x.shape()) + " and " + to_string(c.shape()));
  const Gradient<T> dx = x.gradient();
  Tensor<T> y = std::move(x).release();
  if (!y.sole_holder()) y = y.clone();
  ops::add_to_rows<T>(y.view(), alpha, c.value().data());
  return recorded(std::move(y), dx || c.needs_grad(), [dx, dc = c.gradient(), alpha, shape = c.shape()](Tensor<T> dy) {
    if (dc) {
      Tensor<T> g = Tensor<T>::zeros(shape);
      const View<T> row(g.data(), 1, dy.cols());
      for (std::int64_t i = 0; i < dy.rows(); i++) ops::axpy<T>(row, alpha, dy.view().row_range(i, i + 1));
      dc.add(std::move(g));
    }
    dx.add(std::move(dy));
  });
}

/// y with row n replaced by factor · rows[which[n]] where which[n] ≥ 0: tokens that an adapter answers for.
template <Scalar T>
Variable<T> replace_rows(Variable<T> y, const Variable<T>& rows, Ids which, T factor = 1) {
  const Gradient<T> dy_in = y.gradient();
  Tensor<T> out = std::move(y).release();
  if (!out.sole_holder()) out = out.clone();
  for (std::size_t n = 0; n < which.size(); n++)
    if (which[n] >= 0) {
      const auto row = std::int64_t(n);
      ops::scale<T>(out.view().row_range(row, row + 1), factor, rows.view().row_range(which[n], which[n] + 1));
    }
  return recorded(std::move(out), dy_in || rows.needs_grad(), [dy_in, drows = rows.gradient(), which = std::move(which), factor](Tensor<T> dy) {
    if (drows) {
      const View<T> sum = drows.sum_or_zeros();
      for (std::size_t n = 0; n < which.size(); n++)
        if (which[n] >= 0) ops::axpy<T>(sum.row_range(which[n], which[n] + 1), factor, dy.view().row_range(std::int64_t(n), std::int64_t(n) + 1));
    }
    if (dy_in) {
      if (!dy.sole_holder()) dy = dy.clone();
      for (std::size_t n = 0; n < which.size(); n++)
        if (which[n] >= 0) dy.row_range(std::int64_t(n), std::int64_t(n) + 1).fill(T(0));
      dy_in.add(std::move(dy));
    }
  });
}
/// y with column columns[k] replaced by z's column k: logits of tokens that an adapter answers for. y (N, C), z (N, K).
template <Scalar T>
Variable<T> replace_columns(Variable<T> y, const Variable<T>& z, std::vector<std::int64_t> columns) {
  const Gradient<T> dy_in = y.gradient();
  Tensor<T> out = std::move(y).release();
  if (!out.sole_holder()) out = out.clone();
  for (std::int64_t n = 0; n < out.rows(); n++)
    for (std::size_t k = 0; k < columns.size(); k++) out(n, columns[k]) = z.value()(n, std::int64_t(k));
  return recorded(std::move(out), dy_in || z.needs_grad(), [dy_in, dz = z.gradient(), shape = z.shape(), columns = std::move(columns)](Tensor<T> dy) {
    if (!dy.sole_holder()) dy = dy.clone();
    Tensor<T> g(shape);
    for (std::int64_t n = 0; n < dy.rows(); n++)
      for (std::size_t k = 0; k < columns.size(); k++) g(n, std::int64_t(k)) = std::exchange(dy(n, columns[k]), T(0));
    dz.add(std::move(g));
    dy_in.add(std::move(dy));
  });
}
/// y (N, r): row n is column ids[n] of A (r, vocabulary); the padding id leaves no gradient.
template <Scalar T>
Variable<T> embed_columns(std::span<const std::int32_t> ids, const Variable<T>& A, std::int32_t padding = -1) {
  Tensor<T> y({std::int64_t(ids.size()), A.rows()});
  for (std::size_t n = 0; n < ids.size(); n++)
    for (std::int64_t k = 0; k < A.rows(); k++) y(std::int64_t(n), k) = A.value()(k, ids[n]);
  return recorded(std::move(y), A.needs_grad(), [dA = A.gradient(), padding, ids = Ids(ids.begin(), ids.end())](Tensor<T> dy) {
    const View<T> sum = dA.sum_or_zeros();
    for (std::size_t n = 0; n < ids.size(); n++)
      if (ids[n] != padding)
        for (std::int64_t k = 0; k < sum.rows; k++) sum(k, ids[n]) += dy(std::int64_t(n), k);
  });
}

/// y (N, r): the sums of x's columns j, j + r, j + 2 r, …
template <Scalar T>
Variable<T> fold_columns(const Variable<T>& x, std::int64_t r) {
  Tensor<T> y({x.rows(), r});
  ops::fold_columns<T>(y.view(), x.view());
  return recorded(std::move(y), x.needs_grad(), [dx = x.gradient()](Tensor<T> dy) { ops::fold_columns_backward<T>(dx.sum_or_zeros(), dy.view()); });
}
/// In each group of columns (a, b), halves of it: (−b, a).
template <Scalar T>
Variable<T> rotate_halves(const Variable<T>& x, std::int64_t group) {
  Tensor<T> y(x.shape());
  ops::rotate_halves<T>(y.view(), x.view(), group, false);
  return recorded(std::move(y), x.needs_grad(), [dx = x.gradient(), group](Tensor<T> dy) {
    Tensor<T> g(dy.shape());
    ops::rotate_halves<T>(g.view(), dy.view(), group, true);
    dx.add(std::move(g));
  });
}
/// y column j = x column from[j].
template <Scalar T>
Variable<T> permute_columns(const Variable<T>& x, std::shared_ptr<const std::vector<std::int64_t>> from) {
  Tensor<T> y(x.shape());
  ops::permute_columns<T>(y.view(), x.view(), *from, false);
  return recorded(std::move(y), x.needs_grad(), [dx = x.gradient(), from](Tensor<T> dy) {
    Tensor<T> g(dy.shape());
    ops::permute_columns<T>(g.view(), dy.view(), *from, true);
    dx.add(std::move(g));
  });
}
/// Parts of equal height side by side.
template <Scalar T>
Variable<T> concat_columns(const std::vector<Variable<T>>& parts) {
  std::int64_t total = 0;
  bool wanted = false;
  for (const auto& part : parts) total += part.cols(), wanted = wanted || part.needs_grad();
  Tensor<T> y({parts.at(0).rows(), total});
  std::int64_t column = 0;
  for (const auto& part : parts) ops::copy<T>(y.view().columns(column, column + part.cols()), part.view()), column += part.cols();
  std::vector<std::pair<Gradient<T>, std::int64_t>> sinks;
  for (const auto& part : parts) sinks.emplace_back(part.gradient(), part.cols());
  return recorded(std::move(y), wanted, [sinks = std::move(sinks)](Tensor<T> dy) {
    std::int64_t at = 0;
    for (const auto& [gradient, n] : sinks) gradient.add(dy.columns(at, at + n).clone()), at += n;  // leaves keep contiguous gradients
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

/// y (R, C): each row a mix of k rows of bank (n, C), those with the largest logits (R, n), weighted by the softmax over these k. Which they are
/// has no gradient.
template <Scalar T>
Variable<T> mix_top_rows(const Variable<T>& logits, const Variable<T>& bank, std::int64_t k) {
  const std::int64_t R = logits.rows(), n = logits.cols();
  std::vector<std::int64_t> top(std::size_t(R * k));
  Tensor<T> weights({R, k}), y = Tensor<T>::zeros({R, bank.cols()});
  for (std::int64_t i = 0; i < R; i++) {
    ops::top_of_row<T>(&top[std::size_t(i * k)], k, logits.view().row(i), n);
    for (std::int64_t j = 0; j < k; j++) weights(i, j) = logits.value()(i, top[std::size_t(i * k + j)]);
  }
  ops::softmax_rows<T>(weights.view(), weights.view());
  for (std::int64_t i = 0; i < R; i++)
    for (std::int64_t j = 0; j < k; j++) {
      const std::int64_t row = top[std::size_t(i * k + j)];
      ops::axpy<T>(y.view().row_range(i, i + 1), weights(i, j), bank.view().row_range(row, row + 1));
    }
  return recorded(std::move(y), logits.needs_grad() || bank.needs_grad(),
                  [dlogits = logits.gradient(), dbank = bank.gradient(), bank = bank.value(), weights, top = std::move(top), R, k](Tensor<T> dy) {
                    const View<T> to_bank = dbank ? dbank.sum_or_zeros() : View<T>(), to_logits = dlogits ? dlogits.sum_or_zeros() : View<T>();
                    Tensor<T> dw = Tensor<T>::zeros({R, k}), dz = Tensor<T>::zeros({R, k});
                    for (std::int64_t i = 0; i < R; i++)
                      for (std::int64_t j = 0; j < k; j++) {
                        const std::int64_t row = top[std::size_t(i * k + j)];
                        ops::add_row_dots<T>(&dw(i, j), dy.view().row_range(i, i + 1), bank.view().row_range(row, row + 1));
                        if (to_bank) ops::axpy<T>(to_bank.row_range(row, row + 1), weights(i, j), dy.view().row_range(i, i + 1));
                      }
                    if (!to_logits) return;
                    ops::softmax_rows_backward<T>(dz.view(), dw.view(), weights.view());
                    for (std::int64_t i = 0; i < R; i++)
                      for (std::int64_t j = 0; j < k; j++) to_logits(i, top[std::size_t(i * k + j)]) += dz(i, j);
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
