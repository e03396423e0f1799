// SPDX-License-Identifier: Apache-2.0
// Options of methods beyond their first form: formula, gradient, merge, what is refused.
#include "adapters/one_linear.hpp"

#include "peft/adapters/registry.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

const TargetModules only_map = {"map"};

// PEFT's boft_P[factor] of n features in blocks of `size`: evens and then odds of the half blocks of each group.
Array butterfly_permutation(std::size_t n, std::size_t size, std::size_t factor) {
  const std::size_t half = size / 2, group = size << factor;
  std::vector<std::size_t> order;
  for (std::size_t begin = 0; begin < n; begin += group)
    for (const std::size_t odd : {0, 1})
      for (std::size_t place = odd; place < group / half; place += 2)
        for (std::size_t i = 0; i < half; i++) order.push_back(begin + place * half + i);
  Array P = xt::zeros<double>({n, n});
  for (std::size_t i = 0; i < n; i++) P(i, order[i]) = 1;
  return P;
}
// R with R (I + Q) = I − Q, by the series of a small Q.
Array rotation_of(const Array& P) {
  const Array Q = 0.5 * (P - transposed(P)), I = xt::eye<double>(Q.shape()[0]);
  Array power = I, sum = I;
  for (int k = 0; k < 400; k++) power = times(power, Array(-Q)), sum += power;
  return times(Array(I - Q), sum);
}

}  // namespace

TEST_CASE("BOFT's factors turn the input one after the other, each in blocks of its own", "[adapters][gradcheck]") {
  for (const auto& [size, factors, in] : std::vector<std::array<std::size_t, 3>>{{2, 2, 12}, {6, 2, 12}, {2, 3, 16}}) {
    CAPTURE(size, factors, in);
    const std::size_t n = in, m = factors, b = size;
    check_method(
        BOFTConfig{.boft_block_size = std::int64_t(b), .boft_n_butterfly_factor = std::int64_t(m), .init_weights = false, .target_modules = only_map},
        [&](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
          Array turned = xt::eye<double>(n);
          for (std::size_t i = 0; i < m; i++) {
            Array blocks = xt::zeros<double>({n, n});
            for (std::size_t k = 0; k < n / b; k++) {
              const Array P = xt::view(t["boft_R"], i, k);
              xt::view(blocks, xt::range(k * b, (k + 1) * b), xt::range(k * b, (k + 1) * b)) = rotation_of(P);
            }
            const Array P = butterfly_permutation(n, b, i);
            turned = times(times(P, times(blocks, transposed(P))), turned);
          }
          return Array(times(times(x, turned), transposed(W)) * xt::flatten(t["boft_s"]) + bias);
        },
        OneLinear(std::int64_t(in)));
  }
  check_fresh(BOFTConfig{.boft_block_size = 2, .boft_n_butterfly_factor = 2, .target_modules = only_map}, 4);
  OneLinear base;
  PeftModel tuned{base};
  CHECK_THROWS_WITH(tuned.add_adapter("a", BOFTConfig{.boft_block_size = 3, .boft_n_butterfly_factor = 2, .target_modules = only_map}),
                    Contains("wants blocks of an even size") && Contains("blocks here have 3"));
  CHECK_THROWS_WITH(tuned.add_adapter("a", BOFTConfig{.boft_block_size = 0, .boft_block_num = 6, .boft_n_butterfly_factor = 3, .target_modules = only_map}),
                    Contains("4 of them to divide the 12 features"));
  CHECK_THROWS_WITH(validate(BOFTConfig{.boft_n_butterfly_factor = 0}), Contains("boft_n_butterfly_factor is 0"));
}

TEST_CASE("HRA with orthogonal directions reflects at all of them at once", "[adapters][gradcheck]") {
  check_method(HRAConfig{.r = 4, .apply_GS = true, .target_modules = only_map}, [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
    Array M = xt::eye<double>(12);
    std::vector<Array> done;
    for (std::size_t i = 0; i < 4; i++) {
      Array u = xt::view(t["hra_u"], xt::all(), xt::range(i, i + 1));
      for (const Array& w : done) u = Array(u - w * xt::sum(w * u)());
      u = Array(u / std::sqrt(xt::sum(u * u)()));
      done.push_back(u);
      M -= 2 * times(u, transposed(u));
    }
    return Array(times(x, transposed(times(W, M))) + bias);
  });
  OneLinear base;
  PeftModel tuned{base};
  CHECK_THROWS_WITH(tuned.add_adapter("a", HRAConfig{.r = 13, .apply_GS = true, .target_modules = only_map}), Contains("no more than 12 directions"));
}

TEST_CASE("GraLoRA may have an ordinary LoRA beside it", "[adapters][gradcheck]") {
  check_method(GraloraConfig{.r = 4, .hybrid_r = 3, .alpha = 14, .gralora_k = 2, .init_weights = false, .target_modules = only_map},
               [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                 Array delta = times(t["gralora_B_general.weight"], t["gralora_A_general.weight"]);
                 for (std::size_t o = 0; o < 8; o++)
                   for (std::size_t i = 0; i < 12; i++)
                     for (std::size_t j = 0; j < 2; j++)
                       delta(o, i) += t["gralora_A"](i / 6, i % 6, o / 4 * 2 + j) * t["gralora_B"](o / 4, i / 6 * 2 + j, o % 4);
                 return Array(times(x, transposed(Array(W + 2.0 * delta))) + bias);
               });
  check_fresh(GraloraConfig{.r = 4, .hybrid_r = 2, .target_modules = only_map}, 1);
  CHECK_THROWS_WITH(validate(GraloraConfig{.hybrid_r = -1}), Contains("hybrid_r is -1"));
}
