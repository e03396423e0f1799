// SPDX-License-Identifier: Apache-2.0
// Products with stored weights against products with the widened ones.
#include <catch2/catch.hpp>

#include "ops/stored_types.hpp"
#include "peft/ops/gemm.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

TEMPLATE_TEST_CASE("products with stored weights are products with the widened ones", "[ops]", float, double) {
  using T = TestType;
  std::vector<DType> types = all_types();
  types.push_back(DType::nf4);
  for (const DType type : types)
    for (const std::int64_t n : {1, 3, 19}) {
      const Stored w(type, 37, 256);
      const Tensor<T> wide({37, 256}), x = random_normal<T>({n, 256}, 5), dy = random_normal<T>({n, 37}, 6);
      ops::widen<T>(wide.view(), w.view);
      for (const ops::Kernel kernel : {ops::Kernel::panel, ops::Kernel::dot}) {
        const ops::UseKernel use(kernel);
        CAPTURE(name(type), n, int(kernel));
        const auto forward = [&](const ops::WeightView& weight) {
          Tensor<T> y = poisoned<T>({n, 37});
          ops::linear_forward<T>(y.view(), x.view(), weight);
          return y;
        };
        const Tensor<T> found = forward(w.view), expected = forward(ops::WeightView(wide.view()));
        if (kernel == ops::Kernel::panel) CHECK(same_bits(found, expected));  // the same panels; a dot may sum in a stored block's order
        CHECK_THAT(array(found), is_near<T>(array(expected), 4));
      }
      const auto backward = [&](const ops::WeightView& weight) {
        Tensor<T> dx = poisoned<T>({n, 256});
        ops::linear_backward_input<T>({dx.view()}, dy.view(), weight);
        return dx;
      };
      CHECK(same_bits(backward(w.view), backward(ops::WeightView(wide.view()))));
    }
}
