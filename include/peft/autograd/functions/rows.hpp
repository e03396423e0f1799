// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "peft/autograd/functions/elementwise.hpp"
#include "peft/autograd/functions/embedding.hpp"
#include "peft/ops/matrix.hpp"

namespace peft {

// Rows and columns: scaled, shifted, chosen, replaced, mixed.

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

}  // namespace peft
