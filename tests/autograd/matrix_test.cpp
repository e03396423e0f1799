// SPDX-License-Identifier: Apache-2.0
// The functions that adapters compose their small matrices of, against central differences and xtensor.
#include <catch2/catch.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "peft/autograd/functions/matrix.hpp"
#include "support/gradients.hpp"

using namespace peft;
using namespace peft::testing;

TEST_CASE("products of variables have their gradients, transposed or not", "[autograd][gradcheck]") {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      CAPTURE(ta, tb);
      check_function([&](const Variables& v) { return matmul(v[0], v[1], ta, tb); },
                     {normal(ta ? Shape{4, 3} : Shape{3, 4}), normal(tb ? Shape{5, 4} : Shape{4, 5}, 2)});
    }
  check_function([](const Variables& v) { return matmul(v[0], v[0], false, true); }, {normal({3, 4})});  // one variable at both places
  check_function([](const Variables& v) { return add_product(v[0], v[1], v[2], 1.5); }, {normal({5, 3}), normal({5, 4}, 2), normal({3, 4}, 3)});
  check_function([](const Variables& v) { return batched_matmul(v[0], v[1]); }, {normal({2, 3, 4}), normal({2, 4, 5}, 2)});
  check_function([](const Variables& v) { return multiply_blocks(v[0], v[1]); }, {normal({5, 6}), normal({2, 3, 4}, 2)});
  check_function([](const Variables& v) { return kronecker(v[0], v[1]); }, {normal({2, 3}), normal({3, 2}, 2)});
  CHECK_THROWS_AS(matmul(Variable<double>(normal({2, 3})), Variable<double>(normal({2, 3}))), ShapeError);
  check_function([](const Variables& v) { return transpose(v[0]); }, {normal({5, 3})});
  check_function([](const Variables& v) { return reshape(v[0], {5, 3}); }, {normal({3, 5})});
}

TEST_CASE("norms and inverses of matrices have their gradients", "[autograd][gradcheck]") {
  check_function([](const Variables& v) { return frobenius_norm(v[0]); }, {normal({3, 4})});
  check_function([](const Variables& v) { return inverse(v[0]); }, {normal({2, 3, 3})});
  const Variable<double> x(normal({2, 3, 3}));
  const Tensor<double> product = batched_matmul(x, inverse(x)).value();
  for (std::int64_t i = 0; i < 6; i++)
    for (std::int64_t j = 0; j < 3; j++) CHECK(product(i, j) == Approx(i % 3 == j).margin(1e-12));
  CHECK_THROWS_AS(inverse(Variable<double>(Tensor<double>::zeros({1, 2, 2}))), ConfigError);
}

TEST_CASE("sparse matrices have their gradients", "[autograd][gradcheck]") {
  auto at = std::make_shared<ops::SparsePlaces>();
  at->row = {0, 2, 2}, at->column = {1, 1, 3};
  check_function([&](const Variables& v) { return sparse_update(v[0], v[1], v[2], std::shared_ptr<const ops::SparsePlaces>(at)); },
                 {normal({5, 3}), normal({5, 4}, 2), normal({3}, 3)});
  const auto places =
      std::make_shared<const std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>>>(std::vector<std::int64_t>{0, 3}, std::vector<std::int64_t>{2, 1});
  check_function([&](const Variables& v) { return sparse_inverse_fourier(v[0], places, 4, 3); }, {normal({2})});
}
