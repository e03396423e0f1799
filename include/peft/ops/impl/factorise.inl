// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Dense>
#include <cmath>
#include <limits>

#include "peft/ops/factorise.hpp"

namespace peft::ops {

namespace detail {
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <Scalar T>
RowMajor in_double(View<const T> W) {
  RowMajor m(W.rows, W.cols);
  for (std::int64_t i = 0; i < W.rows; i++)
    for (std::int64_t j = 0; j < W.cols; j++) m(i, j) = double(W(i, j));
  return m;
}
template <Scalar T, class M>
void store(View<T> to, const M& from) {
  for (std::int64_t i = 0; i < to.rows; i++)
    for (std::int64_t j = 0; j < to.cols; j++) to(i, j) = T(from(i, j));
}
}  // namespace detail

template <Scalar T>
void split_by_svd(View<T> B, View<T> A, View<const T> W, double s) {
  const std::int64_t r = B.cols;
  const Eigen::BDCSVD<detail::RowMajor> svd(detail::in_double(W), Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::VectorXd root = (svd.singularValues().head(r) / s).cwiseSqrt();
  const Eigen::MatrixXd b = svd.matrixU().leftCols(r) * root.asDiagonal(), a = root.asDiagonal() * svd.matrixV().leftCols(r).transpose();
  detail::store(B, b), detail::store(A, a);
}

template <Scalar T>
void split_by_qr(View<T> B, View<T> A, View<const T> W) {
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(detail::in_double(W));
  const std::int64_t r = B.cols;
  const Eigen::MatrixXd q = qr.householderQ() * Eigen::MatrixXd::Identity(W.rows, r);
  const Eigen::MatrixXd upper = qr.matrixQR().topRows(std::min(W.rows, W.cols)).template triangularView<Eigen::Upper>();
  detail::store(B, q), detail::store(A, upper.topRows(r).eval());
}

template <Scalar T>
void inverse_gram(View<T> P, View<const T> A, double delta) {
  if (P.rows != A.rows || P.cols != A.rows)
    throw ShapeError("inverse_gram", "P (" + std::to_string(P.rows) + ", " + std::to_string(P.cols) + ") for A of " + std::to_string(A.rows) + " rows");
  const detail::RowMajor a = detail::in_double(A);
  const Eigen::MatrixXd gram = a * a.transpose() + delta * Eigen::MatrixXd::Identity(A.rows, A.rows);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  const Eigen::VectorXd& values = solver.eigenvalues();
  const double least = double(A.rows) * double(std::numeric_limits<T>::epsilon()) * values.cwiseAbs().maxCoeff();
  const Eigen::VectorXd inverse = values.unaryExpr([&](double v) { return std::abs(v) > least ? 1 / v : 0.0; });
  detail::store(P, (solver.eigenvectors() * inverse.asDiagonal() * solver.eigenvectors().transpose()).eval());
}

}  // namespace peft::ops
