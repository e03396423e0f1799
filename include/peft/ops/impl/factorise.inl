// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Dense>
#include <cmath>
#include <limits>

#include "peft/core/random.hpp"
#include "peft/ops/elementwise.hpp"
#include "peft/ops/factorise.hpp"
#include "peft/ops/gemm.hpp"

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

namespace detail {
/// Eigenvectors of G (n, n), symmetric and not negative, by falling eigenvalue.
struct Leading {
  Eigen::VectorXd values;
  Eigen::MatrixXd vectors;  // (n, count)
};
inline Leading all_leading(const Eigen::MatrixXd& G) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(G);
  return {solver.eigenvalues().reverse(), solver.eigenvectors().rowwise().reverse()};
}
/// How many of falling values are to be kept; 0: these do not suffice.
inline std::int64_t rank_for(const Eigen::VectorXd& values, const KeptRank& keep, double total) {
  if (keep.r > 0) return keep.r;
  double sum = 0;
  for (std::int64_t k = 0; k < values.size(); k++)
    if ((sum += std::max(values[k], 0.0)) >= keep.energy * total) return k + 1;
  return 0;
}
/// A few of G's leading eigenvectors, or none if they are slow to part from the others or too few for what is to be kept.
inline Leading few_leading(const Eigen::MatrixXd& G, const KeptRank& keep) {
  const std::int64_t n = G.rows(), width = keep.r > 0 ? 2 * keep.r + 16 : n / 8;
  if (n < 128 || 4 * width > n) return {};
  Random random(0);
  Eigen::MatrixXd X(n, width);
  for (std::int64_t k = 0; k < width; k++)
    for (std::int64_t i = 0; i < n; i++) X(i, k) = random.normal();
  const double total = G.trace();
  double held = 0;
  std::int64_t before = 0;
  Eigen::MatrixXd Y(n, width);
  for (int round = 0; round < 16; round++) {
    const Eigen::MatrixXd Q = Eigen::HouseholderQR<Eigen::MatrixXd>(X).householderQ() * Eigen::MatrixXd::Identity(n, width);
    // The columns of both are rows to gemm.
    gemm<double>(1.0, View<const double>(Q.data(), width, n), false, View<const double>(G.data(), n, n), false, 0.0, View<double>(Y.data(), width, n));
    const Leading inner = all_leading(Q.transpose() * Y);
    // Those in the second half of the block are not good yet.
    const std::int64_t r = rank_for(inner.values.head(width / 2), keep, total);
    if (r == 0 && round > 0) return {};
    const double now = inner.values.head(std::max<std::int64_t>(r, 1)).sum();
    if (r > 0 && r == before && now - held <= 1e-13 * total) return {inner.values.head(r), Q * inner.vectors.leftCols(r)};
    held = now, before = r;
    X = Y * inner.vectors;
  }
  return {};
}
}  // namespace detail

PEFT_INLINE LowRank low_rank(View<const double> W, const KeptRank& keep) {
  const bool by_inputs = W.cols <= W.rows;
  const std::int64_t n = by_inputs ? W.cols : W.rows;
  if (keep.r < 0 || keep.r > n)
    throw ConfigError("low_rank", "a rank of " + std::to_string(keep.r) + "; the matrix (" + std::to_string(W.rows) + ", " + std::to_string(W.cols) +
                                      ") has one of at most " + std::to_string(n));
  if (keep.r == 0 && !(keep.energy > 0 && keep.energy <= 1))
    throw ConfigError("low_rank", "an energy of " + std::to_string(keep.energy) + "; allowed is 0 < energy ≤ 1");
  Eigen::MatrixXd G(n, n);
  gemm<double>(1.0, W, by_inputs, W, !by_inputs, 0.0, View<double>(G.data(), n, n));
  detail::Leading leading = detail::few_leading(G, keep);
  if (leading.values.size() == 0) leading = detail::all_leading(G);
  std::int64_t r = detail::rank_for(leading.values, keep, leading.values.size() == n ? leading.values.cwiseMax(0).sum() : G.trace());
  if (r == 0) r = n;
  // V by rows, and P = W V: the lengths of its columns are the singular values, more exactly than the roots of G's.
  Tensor<double> V({r, n});
  for (std::int64_t k = 0; k < r; k++)
    for (std::int64_t i = 0; i < n; i++) V(k, i) = leading.vectors(i, k);
  LowRank result{Tensor<double>({W.rows, r}), Tensor<double>({r, W.cols}), {}, 0};
  const Tensor<double> P = by_inputs ? result.B : result.A;
  if (by_inputs)
    gemm<double>(1.0, W, false, V.view(), true, 0.0, P.view());
  else
    gemm<double>(1.0, V.view(), false, W, false, 0.0, P.view());
  for (std::int64_t k = 0; k < r; k++) {
    const auto p = [&](std::int64_t i) -> double& { return by_inputs ? P(i, k) : P(k, i); };
    const std::int64_t length = by_inputs ? W.rows : W.cols;
    double square = 0;
    for (std::int64_t i = 0; i < length; i++) square += p(i) * p(i);
    const double sigma = std::sqrt(square), root = std::sqrt(sigma);
    result.singular.push_back(sigma);
    for (std::int64_t i = 0; i < length; i++) p(i) = sigma > 0 ? p(i) / root : 0;
    for (std::int64_t i = 0; i < n; i++) (by_inputs ? result.A(k, i) : result.B(i, k)) = V(k, i) * root;
  }
  const Tensor<double> rest({W.rows, W.cols});
  copy<double>(rest.view(), W);
  gemm<double>(-1.0, result.B.view(), false, result.A.view(), false, 1.0, rest.view());
  double lost = 0, whole = 0;
  for (std::int64_t i = 0; i < W.rows; i++)
    for (std::int64_t j = 0; j < W.cols; j++) lost += rest(i, j) * rest(i, j), whole += W(i, j) * W(i, j);
  result.lost = whole > 0 ? std::sqrt(lost / whole) : 0;
  return result;
}

}  // namespace peft::ops
