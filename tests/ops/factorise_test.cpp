// SPDX-License-Identifier: Apache-2.0
// The pseudo-inverse of A Aᵀ, by the equations that it solves; the nearest matrix of a rank, by singular values that are known.
#include "peft/ops/factorise.hpp"

#include "peft/ops/incremental_pca.hpp"
#include "peft/ops/lengths.hpp"

#include <catch2/catch.hpp>
#include <xtensor/xbuilder.hpp>
#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>

#include "peft/ops/gemm.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
Array matrix_product(const Array& left, const Array& right) {
  return xt::sum(xt::view(left, xt::all(), xt::all(), xt::newaxis()) * xt::view(right, xt::newaxis(), xt::all(), xt::all()), {1});
}
}  // namespace

TEMPLATE_TEST_CASE("(A Aᵀ + δ I)⁺ is the inverse, or that of what is not null", "[ops]", float, double) {
  for (const bool wide : {true, false}) {  // with more rows than columns, A Aᵀ has a rank of 4 alone
    CAPTURE(wide);
    const Tensor<TestType> A = with_gaps(random_normal<TestType>(wide ? Shape{5, 9} : Shape{7, 4}, 3)), P = with_gaps(poisoned<TestType>({A.rows(), A.rows()}));
    const double delta = wide ? 0.25 : 0;
    ops::inverse_gram<TestType>(P.view(), A.view(), delta);
    const Array a = array(A), p = array(P), gram = matrix_product(a, Array(xt::transpose(a))) + delta * xt::eye<double>(std::size_t(A.rows()));
    // Moore and Penrose's conditions
    CHECK_THAT(matrix_product(matrix_product(gram, p), gram), is_near<TestType>(gram, 100));
    CHECK_THAT(matrix_product(matrix_product(p, gram), p), is_near<TestType>(p, 100));
    CHECK_THAT(Array(xt::transpose(p)), is_near<TestType>(p, 10));
    if (wide) CHECK_THAT(matrix_product(gram, p), is_near<TestType>(Array(xt::eye<double>(5)), 100));
  }
  const Tensor<TestType> A({2, 3}), P({3, 3});
  CHECK_THROWS_AS(ops::inverse_gram<TestType>(P.view(), A.view(), 0), ShapeError);
}

namespace {
/// Σ_k σ[k] u_k v_kᵀ with the cosines of the discrete transform as u and v.
Tensor<double> with_singular_values(std::int64_t out, std::int64_t in, const std::vector<double>& sigma) {
  const double pi = 3.14159265358979323846;
  Tensor<double> W = Tensor<double>::zeros({out, in});
  for (std::size_t k = 0; k < sigma.size(); k++)
    for (std::int64_t o = 0; o < out; o++)
      for (std::int64_t i = 0; i < in; i++)
        W(o, i) += sigma[k] * 2 / std::sqrt(double(out * in)) * std::cos(pi * (2 * double(o) + 1) * double(k + 1) / (2 * double(out))) *
                   std::cos(pi * (2 * double(i) + 1) * double(k + 1) / (2 * double(in)));
  return W;
}
}  // namespace

TEST_CASE("the nearest matrix of a rank lacks just the smaller singular values", "[ops]") {
  for (const auto& [out, in] : {std::pair{9, 7}, std::pair{7, 9}, std::pair{160, 200}, std::pair{200, 150}})
    for (const double fall : {0.5, 0.98}) {  // a block of vectors finds them soon, or they are all computed
      CAPTURE(out, in, fall);
      std::vector<double> sigma(std::size_t(std::min(out, in)) - 2);  // and two that are 0
      double total = 0;
      for (std::size_t k = 0; k < sigma.size(); k++) sigma[k] = 3 * std::pow(fall, double(k)), total += sigma[k] * sigma[k];
      const Tensor<double> W = with_gaps(with_singular_values(out, in, sigma));
      for (const std::int64_t r : {std::int64_t(1), std::int64_t(4), std::int64_t(std::min(out, in))}) {
        CAPTURE(r);
        const ops::LowRank low = ops::low_rank(W.view(), {.r = r});
        REQUIRE(low.singular.size() == std::size_t(r));
        double tail = 0;
        for (std::size_t k = 0; k < sigma.size(); k++) {
          if (std::int64_t(k) < r)
            CHECK(low.singular[k] == Approx(sigma[k]).epsilon(1e-9).margin(1e-8 * sigma[0]));  // those of W Wᵀ, to its rounding
          else
            tail += sigma[k] * sigma[k];
        }
        CHECK(low.lost == Approx(std::sqrt(tail / total)).epsilon(1e-6).margin(1e-12));
        const Array off = array(W) - matrix_product(array(low.B), array(low.A));
        CHECK(std::sqrt(xt::sum(off * off)() / total) == Approx(low.lost).epsilon(1e-9).margin(1e-13));
      }
      double held = 0;
      for (std::size_t k = 0; k < 3; k++) held += sigma[k] * sigma[k];
      CHECK(ops::low_rank(W.view(), {.energy = held / total - 1e-9}).singular.size() == 3);
      CHECK(ops::low_rank(W.view(), {.energy = held / total + 1e-9}).singular.size() == 4);
    }
  const Tensor<double> none = Tensor<double>::zeros({4, 6});
  const ops::LowRank nothing = ops::low_rank(none.view(), {.energy = 0.9});
  CHECK(nothing.singular == std::vector<double>{0});
  CHECK(nothing.lost == 0);
  CHECK(xt::all(xt::equal(array(nothing.B), 0.0)));
  CHECK_THROWS_AS(ops::low_rank(none.view(), {.r = 5}), ConfigError);
  CHECK_THROWS_AS(ops::low_rank(none.view(), {.energy = 0}), ConfigError);
}

TEMPLATE_TEST_CASE("lengths of rows of W + s B A, without W + s B A", "[ops]", float, double) {
  using T = TestType;
  const Tensor<T> A = random_normal<T>({3, 9}, 1), B = random_normal<T>({70, 3}, 2), W = random_normal<T>({70, 9}, 3), V({9, 70});
  for (std::int64_t i = 0; i < 70; i++)
    for (std::int64_t j = 0; j < 9; j++) V(j, i) = W(i, j);
  const Array sum = array(W) + 0.7 * matrix_product(array(B), array(A));
  for (const int stored : {0, 1, 2}) {  // by rows, by rows of a weight that is stored by columns, by a table's columns
    ops::WeightView view = stored == 0 ? ops::WeightView(W.view()) : ops::WeightView(V.view());
    if (stored == 1) view.rows = 70, view.cols = 9, view.transposed = true;
    std::vector<double> squares(70, 0.0);
    ops::squared_lengths<T>(squares, view, stored == 2);
    CHECK(squares[65] == Approx(xt::sum(xt::view(array(W), 65) * xt::view(array(W), 65))()).epsilon(1e-6));
    Tensor<T> aw({3, 70}), aa({3, 3}), baa({70, 3}), n({70});
    ops::gemm<T>(T(1), A.view(), false, W.view(), true, T(0), aw.view());
    ops::gemm<T>(T(1), A.view(), false, A.view(), true, T(0), aa.view());
    ops::gemm<T>(T(1), B.view(), false, aa.view(), false, T(0), baa.view());
    ops::lengths_of_sum<T>(n.span(), squares, B.view(), aw.view(), baa.view(), 0.7);
    CHECK_THAT(array(n), is_near<T>(Array(xt::sqrt(xt::sum(sum * sum, {1}))), 100));
  }
}

TEST_CASE("principal components that come in batches are those of all rows", "[ops]") {
  // Of a low rank, batches lose nothing.
  const Tensor<double> left = random_normal<double>({40, 3}, 1), right = random_normal<double>({3, 7}, 2), shift = random_normal<double>({7}, 3), X({40, 7});
  ops::gemm<double>(1.0, left.view(), false, right.view(), false, 0.0, X.view());
  for (std::int64_t i = 0; i < 40; i++)
    for (std::int64_t j = 0; j < 7; j++) X(i, j) += shift[j];
  ops::IncrementalPca whole(3), parts(3);
  whole.add(X.view());
  for (const auto& [begin, end] : {std::pair{0, 4}, std::pair{4, 27}, std::pair{27, 40}}) parts.add(X.view().row_range(begin, end));
  CHECK(parts.rows_seen() == 40);
  CHECK_THAT(array(parts.components()), is_near<double>(array(whole.components()), 1e5));
  double explained = 0;
  for (std::int64_t k = 0; k < 3; k++) {
    CHECK(parts.singular_values()[std::size_t(k)] == Approx(whole.singular_values()[std::size_t(k)]));
    CHECK(parts.explained(k) == Approx(whole.explained(k)));
    explained += parts.explained(k);
  }
  CHECK(explained == Approx(1));
  const Array V = array(whole.components()), mean = xt::mean(array(X), {0}), centred = array(X) - mean;
  CHECK_THAT(matrix_product(V, Array(xt::transpose(V))), is_near<double>(Array(xt::eye<double>(3)), 1000));
  const Array projected = matrix_product(centred, Array(xt::transpose(V)));
  CHECK(std::sqrt(xt::sum(xt::view(projected, xt::all(), 0) * xt::view(projected, xt::all(), 0))()) == Approx(whole.singular_values()[0]));
  CHECK_THROWS_AS(ops::IncrementalPca(8).add(X.view()), ConfigError);
  CHECK_THROWS_AS(parts.add(X.view().row_range(0, 2)), ConfigError);
}
