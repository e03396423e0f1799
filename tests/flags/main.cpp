// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "peft/ops/gemm.hpp"

// C = A B of ones: every entry is the inner extent. 0 when so.
int main() {
  constexpr std::int64_t n = 37, k = 29;
  const std::vector<float> a(n * k, 1.0f), b(k * n, 1.0f);
  std::vector<float> c(n * n, -1.0f);
  using View = peft::View<float>;
  using Input = peft::View<const float>;
  peft::ops::gemm<float>(1.0f, Input{a.data(), n, k, k}, false, Input{b.data(), k, n, n}, false, 0.0f, View{c.data(), n, n, n});
  for (const float value : c)
    if (value != float(k)) return 1;
  return 0;
}
