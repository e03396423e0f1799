// SPDX-License-Identifier: Apache-2.0
// The functions that adapters compose their small matrices of, against central differences and xtensor.
#include <catch2/catch.hpp>

#include "peft/autograd/functions/pointwise.hpp"
#include "support/gradients.hpp"

using namespace peft;
using namespace peft::testing;

TEST_CASE("functions of elements have their gradients", "[autograd][gradcheck]") {
  check_function([](const Variables& v) { return peft::cos(v[0]); }, {normal({3, 4})});
  check_function([](const Variables& v) { return peft::sin(v[0]); }, {normal({3, 4})});
  check_function([](const Variables& v) { return sigmoid(v[0]); }, {normal({3, 4})});
  check_function([](const Variables& v) { return reciprocal(v[0]); }, {Tensor<double>({3}, std::vector<double>{0.5, -1.5, 2})});
}
