// SPDX-License-Identifier: Apache-2.0
#include "peft/core/tensor.hpp"
#include "peft/ops/gemm.hpp"

// C = A B of ones: every entry is the inner extent. 0 when so.
int main() {
  constexpr std::int64_t n = 37, k = 29;
  peft::Tensor<float> a({n, k}), b({k, n}), c({n, n});
  a.fill(1), b.fill(1), c.fill(-1);
  peft::ops::gemm<float>(1.0f, a.view(), false, b.view(), false, 0.0f, c.view());
  for (const float value : c.span())
    if (value != float(k)) return 1;
  return 0;
}
