// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <string>

#include "peft/ops/elementwise.hpp"
#include "peft/ops/factorise.hpp"
#include "peft/ops/incremental_pca.hpp"

namespace peft::ops {

PEFT_INLINE double IncrementalPca::explained(std::int64_t k) const {
  const double sigma = sigma_.at(std::size_t(k));
  return spread_ > 0 ? sigma * sigma / spread_ : 0;
}

PEFT_INLINE void IncrementalPca::add(View<const double> X) {
  const std::int64_t n = X.rows, d = X.cols, before = seen_ > 0 ? V_.rows() : 0;
  if (n < components_ || d < components_)
    throw ConfigError("incremental_pca", std::to_string(components_) + " components of (" + std::to_string(n) + ", " + std::to_string(d) +
                                             ") numbers; there are no more than either");
  if (before && V_.cols() != d) throw ShapeError("incremental_pca", std::to_string(d) + " features behind " + std::to_string(V_.cols()));
  Tensor<double> mean = Tensor<double>::zeros({d});
  for (std::int64_t i = 0; i < n; i++)
    for (std::int64_t j = 0; j < d; j++) mean[j] += X(i, j);
  for (double& m : mean.span()) m /= double(n);

  const Tensor<double> rows({before + n + (before ? 1 : 0), d});
  for (std::int64_t k = 0; k < before; k++)
    for (std::int64_t j = 0; j < d; j++) rows(k, j) = sigma_[std::size_t(k)] * V_(k, j);
  for (std::int64_t i = 0; i < n; i++)
    for (std::int64_t j = 0; j < d; j++) {
      const double off = X(i, j) - mean[j];
      rows(before + i, j) = off, spread_ += off * off;
    }
  if (before) {
    const double factor = double(seen_) / double(seen_ + n) * double(n), root = std::sqrt(factor);
    for (std::int64_t j = 0; j < d; j++) {
      const double apart = mean_[j] - mean[j];
      rows(before + n, j) = root * apart, spread_ += factor * apart * apart;
      mean[j] += double(seen_) / double(seen_ + n) * apart;
    }
  }
  seen_ += n, mean_ = mean;

  LowRank leading = low_rank(rows.view(), {.r = components_});
  sigma_ = std::move(leading.singular), V_ = std::move(leading.A);
  for (std::int64_t k = 0; k < components_; k++) {
    const double root = std::sqrt(sigma_[std::size_t(k)]);
    double largest = 0;
    for (std::int64_t j = 0; j < d; j++)
      if (std::abs(V_(k, j)) > std::abs(largest)) largest = V_(k, j);
    const double by = root > 0 ? std::copysign(1 / root, largest) : 0;
    for (std::int64_t j = 0; j < d; j++) V_(k, j) *= by;
  }
}

}  // namespace peft::ops
