// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "peft/autograd/functions/embedding.hpp"
#include "peft/autograd/parameter.hpp"
#include "peft/autograd/tape.hpp"
#include "peft/core/labels.hpp"
#include "peft/ops/linear_cross_entropy.hpp"

namespace peft {

namespace detail {
// Row numbers and labels of the rows that count.
struct Labelled {
  Ids rows, labels;
};
inline Labelled labelled(std::string_view operation, std::span<const std::int32_t> labels, std::int64_t rows, std::int64_t classes) {
  if (std::int64_t(labels.size()) != rows) throw ShapeError(operation, std::to_string(labels.size()) + " labels for " + std::to_string(rows) + " rows");
  Labelled found;
  for (std::size_t i = 0; i < labels.size(); i++) {
    if (labels[i] == ignore_index) continue;
    if (labels[i] < 0 || labels[i] >= classes)
      throw ShapeError(operation, "label " + std::to_string(labels[i]) + " in row " + std::to_string(i) + "; allowed are 0 … " + std::to_string(classes - 1) + " and -100 (ignored)");
    found.rows.push_back(std::int32_t(i)), found.labels.push_back(labels[i]);
  }
  return found;
}
template <Scalar T>
Tensor<T> gather_rows(const Tensor<T>& x, const Ids& rows) {
  Tensor<T> y({std::int64_t(rows.size()), x.cols()});
  for (std::size_t i = 0; i < rows.size(); i++) std::copy_n(x.view().row(rows[i]), x.cols(), y.view().row(std::int64_t(i)));
  return y;
}
template <Scalar T>
T mean(const Tensor<T>& loss, double denominator) {
  double sum = 0;
  for (T value : loss.span()) sum += double(value);
  return T(sum / denominator);
}
}  // namespace detail

/// Σ over labelled rows of −log softmax(x Wᵀ + b)[label], divided by `denominator` (the number of labelled rows by default): a scalar.
/// x (N, C); labels (N), ignore_index for rows without one; W (V, C). Only labelled rows are multiplied, no logit is stored, and dx is
/// found in the same sweep as the loss. Keeps dx of the labelled rows.
template <Scalar T>
Variable<T> linear_cross_entropy(const Variable<T>& x, const Parameter<T>& weight, const Parameter<T>& bias, std::span<const std::int32_t> labels,
                                 double denominator = 0) {
  detail::Labelled rows = detail::labelled("linear_cross_entropy", labels, x.rows(), weight.shape()[0]);
  if (denominator <= 0) denominator = double(rows.labels.size());
  const std::int64_t n = std::int64_t(rows.labels.size());
  if (n == 0) return Variable<T>(Tensor<T>::zeros({}));
  const bool train_weight = recording(weight.requires_grad(), bias.requires_grad()), wanted = recording(x.needs_grad()) || train_weight;
  const Tensor<T> in = detail::gather_rows(x.value(), rows.rows);
  Tensor<T> loss({n}), lse({n}), dx = recording(x.needs_grad()) ? Tensor<T>(in.shape()) : Tensor<T>();
  ops::linear_cross_entropy_forward<T>(loss.data(), lse.data(), dx.view(), in.view(), weight.view(), bias ? bias.value().data() : nullptr, rows.labels);
  Tensor<T> y({}, detail::mean(loss, denominator));
  if (!wanted) return Variable<T>(std::move(y));
  return recorded(std::move(y), true,
                  [gradient = x.gradient(), dx, in = train_weight ? in : Tensor<T>(), lse, weight, bias, rows = std::move(rows), denominator](Tensor<T> dy) {
                    const T factor = T(double(dy[0]) / denominator);
                    if (gradient) {
                      const View<T> sum = gradient.sum_or_zeros();
                      for (std::size_t i = 0; i < rows.rows.size(); i++)
                        ops::axpy<T>(sum.row_range(rows.rows[i], rows.rows[i] + 1), factor, dx.view().row_range(std::int64_t(i), std::int64_t(i) + 1));
                    }
                    if (weight.requires_grad() || bias.requires_grad())
                      ops::linear_cross_entropy_backward_weight<T>(weight.gradient().sink(), bias.gradient().sink(), factor, in.view(), weight.view(),
                                                                   bias ? bias.value().data() : nullptr, rows.labels, lse.data());
                  });
}

/// The same on logits (N, V) that exist, for heads with few classes or with adapters on them.
template <Scalar T>
Variable<T> cross_entropy(const Variable<T>& logits, std::span<const std::int32_t> labels, double denominator = 0) {
  detail::Labelled rows = detail::labelled("cross_entropy", labels, logits.rows(), logits.cols());
  if (rows.labels.empty()) return Variable<T>(Tensor<T>::zeros({}));
  if (denominator <= 0) denominator = double(rows.labels.size());
  Tensor<T> log_p = detail::gather_rows(logits.value(), rows.rows);
  ops::log_softmax<T>(log_p.view());
  double total = 0;
  for (std::size_t i = 0; i < rows.labels.size(); i++) total -= double(log_p(std::int64_t(i), rows.labels[i]));
  Tensor<T> y({}, T(total / denominator));
  return recorded(std::move(y), logits.needs_grad(), [gradient = logits.gradient(), log_p, rows = std::move(rows), denominator](Tensor<T> dy) {
    const T factor = T(double(dy[0]) / denominator);
    const View<T> sum = gradient.sum_or_zeros();
    for (std::size_t i = 0; i < rows.rows.size(); i++) {  // d/dlogits = softmax − onehot
      const T* from = log_p.view().row(std::int64_t(i));
      T* to = sum.row(rows.rows[i]);
      for (std::int64_t c = 0; c < log_p.cols(); c++) to[c] += factor * (std::exp(from[c]) - T(c == rows.labels[i]));
    }
  });
}

}  // namespace peft
