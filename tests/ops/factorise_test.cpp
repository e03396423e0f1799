// SPDX-License-Identifier: Apache-2.0
// The pseudo-inverse of A Aᵀ, by the equations that it solves.
#include "peft/ops/factorise.hpp"

#include <catch2/catch.hpp>
#include <xtensor/xbuilder.hpp>
#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>

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
