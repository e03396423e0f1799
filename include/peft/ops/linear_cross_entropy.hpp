// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <span>

#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// What the rows of a head are to predict: one class each, or some classes with weights, as a teacher gives them. A row's weights need not
/// sum to 1.
template <Scalar T>
struct ClassTargets {
  std::span<const std::int32_t> classes;       // in 0 … V. One a row; with offsets, those of all rows one after the other
  std::span<const std::int64_t> offsets = {};  // (N + 1): row i has classes offsets[i] … offsets[i + 1] − 1
  std::span<const T> weights = {};             // one a class; empty: 1 each
  double label_smoothing = 0;                  // ε of each row's weight goes to all V classes evenly (Szegedy et al. 2015, arXiv:1512.00567)

  ClassTargets() = default;
  template <class Labels>
  requires std::convertible_to<Labels, std::span<const std::int32_t>> ClassTargets(const Labels& one_a_row, double smoothing = 0)
      : classes(one_a_row), label_smoothing(smoothing) {}
  ClassTargets(std::span<const std::int32_t> of_all, std::span<const std::int64_t> row_offsets, std::span<const T> class_weights, double smoothing = 0)
      : classes(of_all), offsets(row_offsets), weights(class_weights), label_smoothing(smoothing) {}

  std::int64_t rows() const { return offsets.empty() ? std::int64_t(classes.size()) : std::int64_t(offsets.size()) - 1; }
  std::int64_t begin(std::int64_t row) const { return offsets.empty() ? row : offsets[std::size_t(row)]; }
  std::int64_t end(std::int64_t row) const { return offsets.empty() ? row + 1 : offsets[std::size_t(row) + 1]; }
  T weight(std::int64_t i) const { return weights.empty() ? T(1) : weights[std::size_t(i)]; }
  /// Q, a row's weights together.
  T mass(std::int64_t row) const {
    T sum = 0;
    for (std::int64_t i = begin(row); i < end(row); i++) sum += weight(i);
    return sum;
  }
};

/// loss_i = −Σ_v q_v log softmax(x_i Wᵀ + b)_v without a buffer of logits: tiles of the vocabulary, a running maximum and sum. q is the
/// row's targets, smoothed: (1 − ε) q + ε Q / V. x (N, C), W (V, C), b (V) or null; loss, lse (N). Rows to be ignored are dropped by the caller.
/// If dx (N, C) is wanted, it becomes d(Σ loss)/dx = Q softmax(x Wᵀ) W − Σ_v q_v W_v in the same sweep: Σ_v e^(l_v − max) W_v is
/// accumulated beside the sum and rescaled with it, as attention does with its values, so no logit is computed twice. softcap c > 0: the softmax is
/// of l = c tanh((x Wᵀ + b) / c), and each class's share of dx is times 1 − (l / c)².
template <Scalar T>
void linear_cross_entropy_forward(T* loss, T* lse, View<T> dx, View<const T> x, const WeightView& w, const T* bias, const ClassTargets<T>& targets,
                                  double softcap = 0);

/// dW (V, C) = scale · (Q softmax − q)ᵀ x and db likewise, from the saved lse: a second sweep, only where the head trains. Behind a cap, Q softmax − q
/// is times 1 − (l / c)².
template <Scalar T>
void linear_cross_entropy_backward_weight(GradSink<T> dw, GradSink<T> db, T scale, View<const T> x, const WeightView& w, const T* bias,
                                          const ClassTargets<T>& targets, const T* lse, double softcap = 0);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/linear_cross_entropy.inl"
#endif
