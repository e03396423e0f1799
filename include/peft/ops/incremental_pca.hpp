// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "peft/core/tensor.hpp"

namespace peft::ops {

/// The principal components of rows that come in batches (Ross et al. 2008, as in scikit-learn): what was found so far stands as rows of S V above the
/// batch, less its mean, and a row for the two means' distance; the leading singular values of these are the new ones. In double.
class IncrementalPca {
 public:
  explicit IncrementalPca(std::int64_t components) : components_(components) {}
  /// X (N, features), N at least the number of components; throws ConfigError for fewer rows or features.
  void add(View<const double> X);
  std::int64_t rows_seen() const { return seen_; }
  /// (components, features): unit rows by falling singular value, each with a positive largest entry. Nothing before the first batch.
  const Tensor<double>& components() const { return V_; }
  const std::vector<double>& singular_values() const { return sigma_; }
  /// σ² / Σ of all features' squared distances from their means.
  double explained(std::int64_t k) const;

 private:
  std::int64_t components_, seen_ = 0;
  Tensor<double> V_, mean_;
  std::vector<double> sigma_;
  double spread_ = 0;  // Σ (x − mean)², of all rows and features
};

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/incremental_pca.inl"
#endif
