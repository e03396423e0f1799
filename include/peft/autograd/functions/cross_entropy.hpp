// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <vector>

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
      throw ShapeError(operation, "label " + std::to_string(labels[i]) + " in row " + std::to_string(i) + "; allowed are 0 … " + std::to_string(classes - 1) +
                                      " and -100 (ignored)");
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

/// What a teacher says of some rows of x: row i has classes offsets[i] … offsets[i + 1] − 1 with these weights, its probabilities or the
/// largest of them. Rows without a class are passed over.
template <Scalar T>
struct SoftTargets {
  Ids classes;
  std::vector<T, PoolAllocator<T>> weights;
  std::vector<std::int64_t, PoolAllocator<std::int64_t>> offsets;  // (N + 1), from 0
  double label_smoothing = 0;
};

namespace detail {
/// The rows that count, and their targets alone.
template <Scalar T>
struct HeadTargets {
  Ids rows, classes;
  std::vector<T, PoolAllocator<T>> weights = {};
  std::vector<std::int64_t, PoolAllocator<std::int64_t>> offsets = {};
  double label_smoothing = 0;
  ops::ClassTargets<T> view() const {
    if (offsets.empty()) return {classes, label_smoothing};
    return {classes, offsets, weights, label_smoothing};
  }
};

template <Scalar T>
Variable<T> head_loss(const Variable<T>& x, const Parameter<T>& weight, const Parameter<T>& bias, HeadTargets<T> targets, double denominator, double softcap) {
  if (denominator <= 0) denominator = double(targets.rows.size());
  const std::int64_t n = std::int64_t(targets.rows.size());
  if (n == 0) return Variable<T>(Tensor<T>::zeros({}));
  const bool train_weight = recording(weight.requires_grad(), bias.requires_grad()), wanted = recording(x.needs_grad()) || train_weight;
  const Tensor<T> in = gather_rows(x.value(), targets.rows);
  Tensor<T> loss({n}), lse({n}), dx = recording(x.needs_grad()) ? Tensor<T>(in.shape()) : Tensor<T>();
  ops::linear_cross_entropy_forward<T>(loss.data(), lse.data(), dx.view(), in.view(), weight.view(), bias ? bias.value().data() : nullptr, targets.view(),
                                       softcap);
  Tensor<T> y({}, mean(loss, denominator));
  if (!wanted) return Variable<T>(std::move(y));
  return recorded(
      std::move(y), true,
      [gradient = x.gradient(), dx, in = train_weight ? in : Tensor<T>(), lse, weight, bias, targets = std::move(targets), denominator, softcap](Tensor<T> dy) {
        const T factor = T(double(dy[0]) / denominator);
        if (gradient) {
          const View<T> sum = gradient.sum_or_zeros();
          for (std::size_t i = 0; i < targets.rows.size(); i++)
            ops::axpy<T>(sum.row_range(targets.rows[i], targets.rows[i] + 1), factor, dx.view().row_range(std::int64_t(i), std::int64_t(i) + 1));
        }
        if (weight.requires_grad() || bias.requires_grad())
          ops::linear_cross_entropy_backward_weight<T>(weight.gradient().sink(), bias.gradient().sink(), factor, in.view(), weight.view(),
                                                       bias ? bias.value().data() : nullptr, targets.view(), lse.data(), softcap);
      });
}
}  // namespace detail

/// Σ over labelled rows of −log softmax(x Wᵀ + b)[label], divided by `denominator` (the number of labelled rows by default): a scalar.
/// x (N, C); labels (N), ignore_index for rows without one; W (V, C). Only labelled rows are multiplied, no logit is stored, and dx is
/// found in the same sweep as the loss. Keeps dx of the labelled rows. label_smoothing as in torch.nn.functional.cross_entropy. softcap c > 0: of
/// logits c tanh((x Wᵀ + b) / c).
template <Scalar T>
Variable<T> linear_cross_entropy(const Variable<T>& x, const Parameter<T>& weight, const Parameter<T>& bias, std::span<const std::int32_t> labels,
                                 double denominator = 0, double label_smoothing = 0, double softcap = 0) {
  detail::Labelled found = detail::labelled("linear_cross_entropy", labels, x.rows(), weight.shape()[0]);
  detail::HeadTargets<T> targets{std::move(found.rows), std::move(found.labels)};
  targets.label_smoothing = label_smoothing;
  return detail::head_loss(x, weight, bias, std::move(targets), denominator, softcap);
}

/// Σ over rows with targets of −Σ_v q_v log softmax(x Wᵀ + b)_v: cross-entropy against a teacher's probabilities, for distillation (Hinton et
/// al. 2015, arXiv:1503.02531); divided by `denominator`, or the number of such rows.
template <Scalar T>
Variable<T> linear_cross_entropy(const Variable<T>& x, const Parameter<T>& weight, const Parameter<T>& bias, const SoftTargets<T>& soft, double denominator = 0,
                                 double softcap = 0) {
  if (std::int64_t(soft.offsets.size()) != x.rows() + 1 || soft.offsets.front() != 0 || soft.offsets.back() != std::int64_t(soft.classes.size()))
    throw ShapeError("linear_cross_entropy", std::to_string(soft.offsets.size()) + " offsets of soft targets for " + std::to_string(x.rows()) +
                                                 " rows; one more than rows is wanted, from 0 to the number of classes, " +
                                                 std::to_string(soft.classes.size()));
  detail::HeadTargets<T> targets{{}, soft.classes, soft.weights};
  targets.label_smoothing = soft.label_smoothing;
  targets.offsets.push_back(0);
  for (std::int64_t i = 0; i < x.rows(); i++)
    if (const std::int64_t end = soft.offsets[std::size_t(i) + 1]; end != soft.offsets[std::size_t(i)])
      targets.rows.push_back(std::int32_t(i)), targets.offsets.push_back(end);
  return detail::head_loss(x, weight, bias, std::move(targets), denominator, softcap);
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
