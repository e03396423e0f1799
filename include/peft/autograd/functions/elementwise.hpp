// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "peft/autograd/tape.hpp"
#include "peft/ops/elementwise.hpp"

namespace peft {

/// y = a + b, the residual join: written into a if nobody else holds it. The gradient goes to both as it is.
template <Scalar T>
Variable<T> add(Variable<T> a, const Variable<T>& b) {
  if (!(a.shape() == b.shape())) throw ShapeError("add", to_string(a.shape()) + " and " + to_string(b.shape()));
  const Gradient<T> da = a.gradient();
  Tensor<T> y = std::move(a).release();
  if (y.sole_holder()) {
    ops::add_into<T>(y.view(), b.view());
  } else {
    Tensor<T> sum(y.shape());
    ops::add<T>(sum.view(), y.view(), b.view());
    y = std::move(sum);
  }
  return recorded(std::move(y), da || b.needs_grad(), [da, db = b.gradient()](Tensor<T> dy) {
    db.add(dy);
    da.add(std::move(dy));
  });
}

/// y = alpha · x
template <Scalar T>
Variable<T> scale(const Variable<T>& x, T alpha) {
  Tensor<T> y(x.shape());
  ops::scale<T>(y.view(), alpha, x.view());
  return recorded(std::move(y), x.needs_grad(), [dx = x.gradient(), alpha](Tensor<T> dy) {
    Tensor<T> g = dy.sole_holder() ? dy : Tensor<T>(dy.shape());
    ops::scale<T>(g.view(), alpha, dy.view());
    dy = {};
    dx.add(std::move(g));
  });
}

/// y = a ∘ b
template <Scalar T>
Variable<T> multiply(const Variable<T>& a, const Variable<T>& b) {
  if (!(a.shape() == b.shape())) throw ShapeError("multiply", to_string(a.shape()) + " and " + to_string(b.shape()));
  Tensor<T> y(a.shape());
  ops::multiply<T>(y.view(), a.view(), b.view());
  return recorded(
      std::move(y), a.needs_grad() || b.needs_grad(),
      [da = a.gradient(), db = b.gradient(), a = b.needs_grad() ? a.value() : Tensor<T>(), b = a.needs_grad() ? b.value() : Tensor<T>()](Tensor<T> dy) {
        if (da) {
          Tensor<T> g(dy.shape());
          ops::multiply<T>(g.view(), dy.view(), b.view());
          da.add(std::move(g));
        }
        if (db) {
          Tensor<T> g(dy.shape());
          ops::multiply<T>(g.view(), dy.view(), a.view());
          db.add(std::move(g));
        }
      });
}

/// The same numbers in another shape: a view, or a copy where x's rows lie apart.
template <Scalar T>
Variable<T> reshape(Variable<T> x, const Shape& shape) {
  const Gradient<T> dx = x.gradient();
  Tensor<T> y = std::move(x).release();
  y = y.contiguous() ? y.reshape(shape) : y.clone().reshape(shape);
  return recorded(std::move(y), bool(dx), [dx](Tensor<T> dy) { dx.add((dy.contiguous() ? std::move(dy) : dy.clone()).reshape(dx.shape())); });
}

/// Rows begin … end of x as a view; what comes back is added into those rows of x's gradient.
template <Scalar T>
Variable<T> rows(const Variable<T>& x, std::int64_t begin, std::int64_t end) {
  return recorded(x.value().row_range(begin, end), x.needs_grad(), [dx = x.gradient(), begin, end](Tensor<T> dy) {
    const View<T> sum = dx.sum_or_zeros();
    ops::add_into<T>(sum.row_range(begin, end), dy.view());
  });
}

/// Columns begin … end of x as a view: one part of a fused projection.
template <Scalar T>
Variable<T> columns(const Variable<T>& x, std::int64_t begin, std::int64_t end) {
  return recorded(x.value().columns(begin, end), x.needs_grad(), [dx = x.gradient(), begin, end](Tensor<T> dy) {
    const View<T> sum = dx.sum_or_zeros();
    ops::add_into<T>(sum.columns(begin, end), dy.view());
  });
}

/// Parts of equal width one under the other. Parts that already lie so in memory are joined without a copy.
template <Scalar T>
Variable<T> concat_rows(std::span<const Variable<T>> parts) {
  if (parts.size() == 1) return parts[0];
  std::int64_t total = 0;
  bool wanted = false, adjacent = !parts.empty();
  for (const auto& part : parts) {
    if (part.cols() != parts[0].cols()) throw ShapeError("concat_rows", to_string(part.shape()) + " under " + to_string(parts[0].shape()));
    adjacent =
        adjacent && part.value().data() == parts[0].value().data() + total * parts[0].value().stride() && part.value().stride() == parts[0].value().stride();
    total += part.rows(), wanted = wanted || part.needs_grad();
  }
  const Shape shape{total, parts[0].cols()};
  Tensor<T> y;
  if (adjacent && parts[0].value().can_grow_rows(total)) {
    y = parts[0].value().grow_rows(total);
  } else {
    y = Tensor<T>(shape);
    std::int64_t row = 0;
    for (const auto& part : parts) ops::copy<T>(y.view().row_range(row, row + part.rows()), part.view()), row += part.rows();
  }
  if (!recording(wanted)) return Variable<T>(std::move(y));
  std::vector<std::pair<Gradient<T>, std::int64_t>, PoolAllocator<std::pair<Gradient<T>, std::int64_t>>> sinks;
  for (const auto& part : parts) sinks.emplace_back(part.gradient(), part.rows());
  return recorded(std::move(y), true, [sinks = std::move(sinks)](Tensor<T> dy) {
    std::int64_t row = 0;
    for (const auto& [gradient, n] : sinks) gradient.add(dy.row_range(row, row + n)), row += n;
  });
}

}  // namespace peft
