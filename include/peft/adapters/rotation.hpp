// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/functions/matrix.hpp"

namespace peft {

// Rotations R from skew-symmetric matrices Q (B, b, b), as OFT and BOFT make them.

/// Where the entries of Q are among (B, b (b−1)/2) numbers of strict upper triangles, row by row; blocks beyond the first reuse it if `share`.
inline std::shared_ptr<const ops::GatherMap> skew_map(std::int64_t blocks, std::int64_t b, bool share) {
  auto map = std::make_shared<ops::GatherMap>();
  const std::int64_t count = b * (b - 1) / 2;
  for (std::int64_t block = 0; block < blocks; block++)
    for (std::int64_t i = 0; i < b; i++)
      for (std::int64_t j = 0; j < b; j++) {
        const std::int64_t low = std::min(i, j), high = std::max(i, j);
        map->from.push_back(i == j ? -1 : (share ? 0 : block * count) + low * b - low * (low + 1) / 2 + high - low - 1);
        map->sign.push_back(i < j ? 1 : -1);
      }
  return map;
}
template <Scalar T>
Variable<T> identity_blocks(std::int64_t blocks, std::int64_t b) {
  Tensor<T> I = Tensor<T>::zeros({blocks, b, b});
  for (std::int64_t block = 0; block < blocks; block++)
    for (std::int64_t i = 0; i < b; i++) I(block * b + i, i) = 1;
  return Variable<T>(std::move(I));
}
/// (I − Q)(I + Q)⁻¹, exactly orthogonal (Cayley).
template <Scalar T>
Variable<T> cayley(const Variable<T>& Q) {
  const Variable<T> I = identity_blocks<T>(Q.shape()[0], Q.shape()[1]);
  return batched_matmul(add(scale(Q, T(-1)), I), inverse(add(scale(Q, T(1)), I)));
}
/// I + 2 Q + 2 Q² + … + 2 Qⁿ⁻² + Qⁿ⁻¹: the series of (I + Q)(I − Q)⁻¹, of which the last term has its full power only once. Note the other sign of
/// Q. As PEFT, three terms end in Q³, as four do.
template <Scalar T>
Variable<T> cayley_neumann(const Variable<T>& Q, std::int64_t terms) {
  Variable<T> R = identity_blocks<T>(Q.shape()[0], Q.shape()[1]);
  if (terms < 2) return R;
  R = add(scale(Q, T(2)), R);
  if (terms < 3) return R;
  Variable<T> power = batched_matmul(Q, Q);
  R = add(scale(power, T(2)), R);
  for (std::int64_t i = 3; i < terms - 1; i++) power = batched_matmul(power, Q), R = add(scale(power, T(2)), R);
  return add(batched_matmul(power, Q), R);
}
/// Each block's transpose.
template <Scalar T>
Tensor<T> transposed_blocks(const Tensor<T>& R) {
  const std::int64_t b = R.cols();
  Tensor<T> t(R.shape());
  for (std::int64_t i = 0; i < R.rows(); i++)
    for (std::int64_t j = 0; j < b; j++) t(i, j) = R(i / b * b + j, i % b);
  return t;
}

}  // namespace peft
