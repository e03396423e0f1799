// SPDX-License-Identifier: Apache-2.0
// The functions that adapters compose their small matrices of, against central differences and xtensor.
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "peft/autograd/functions/fourier.hpp"
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
  check_function([&](const Variables& v) { return sparse_update(v[0], v[1], v[2], std::shared_ptr<const ops::SparsePlaces>(at)); },
                 {normal({2, 3}), normal({2, 4}, 2), normal({3}, 3)});
}

TEST_CASE("circulant blocks have their gradients", "[autograd][gradcheck]") {
  check_function([](const Variables& v) { return circulant(v[0], 0.5); }, {normal({2, 3, 4})});
  const Tensor<double> kernel = normal({2, 3, 4}), y = circulant(Variable<double>(kernel), 0.5).value();
  for (std::int64_t o = 0; o < 8; o++)
    for (std::int64_t i = 0; i < 12; i++) CHECK(y(o, i) == 0.5 * kernel[(o / 4 * 3 + i / 4) * 4 + (i - o + 12) % 4]);
}

TEST_CASE("few coefficients of a spectrum make a matrix", "[autograd][gradcheck]") {
  // Even and odd lengths, one, and places on both sides of the middle, in it, and twice.
  for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>{4, 3}, {5, 8}, {1, 6}, {7, 1}, {8, 2}}) {
    const auto places = std::make_shared<const SparseSpectrum<double>>(SparseSpectrum<double>{
        out,
        in,
        {{0, std::int32_t(out - 1), std::int32_t(out / 2), std::int32_t(out - 1)}, {std::int32_t(in - 1), std::int32_t(in / 2), 0, std::int32_t(in / 2)}}});
    const Tensor<double> values = normal({4});
    check_function([&](const Variables& v) { return sparse_inverse_fourier(v[0], places, 3.0); }, {values});
    const Tensor<double> y = sparse_inverse_fourier(Variable<double>(values), places, 3.0).value();
    for (std::int64_t p = 0; p < out; p++)
      for (std::int64_t q = 0; q < in; q++) {
        double sum = 0;
        for (std::size_t k = 0; k < 4; k++)
          sum +=
              values[std::int64_t(k)] * std::cos(2 * 3.14159265358979323846 *
                                                 (double(places->at.row[k]) * double(p) / double(out) + double(places->at.column[k]) * double(q) / double(in)));
        CHECK(y(p, q) == Approx(3 * sum / double(out * in)).margin(1e-12));
      }
  }
}
