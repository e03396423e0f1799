// SPDX-License-Identifier: Apache-2.0
// Methods that turn the input: each formula in xtensor, its gradient, its merge, how it begins, and what it refuses.
#include "adapters/one_linear.hpp"

#include "peft/adapters/registry.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

// Block-diagonal (blocks · b, blocks · b) of (blocks, b, b).
Array block_diagonal(const std::vector<Array>& blocks) {
  const std::size_t size = blocks[0].shape()[0];
  Array all = xt::zeros<double>({blocks.size() * size, blocks.size() * size});
  for (std::size_t k = 0; k < blocks.size(); k++) xt::view(all, xt::range(k * size, (k + 1) * size), xt::range(k * size, (k + 1) * size)) = blocks[k];
  return all;
}
Array skew(const Array& triangles, std::size_t block, std::size_t size) {
  Array Q = xt::zeros<double>({size, size});
  std::size_t k = 0;
  for (std::size_t i = 0; i < size; i++)
    for (std::size_t j = i + 1; j < size; j++, k++) Q(i, j) = triangles(block, k), Q(j, i) = -triangles(block, k);
  return Q;
}
// X with X (I + Q) = I − Q, by the geometric series of a small Q: (I − Q) Σ (−Q)ᵏ.
Array cayley_by_series(const Array& Q) {
  const Array I = xt::eye<double>(Q.shape()[0]);
  Array power = I, sum = I;
  for (int k = 0; k < 400; k++) power = times(power, Array(-Q)), sum += power;
  return times(Array(I - Q), sum);
}
// PEFT's boft_P[factor] of n features in blocks of `size`: evens and then odds of the half blocks of each group.
Array butterfly_permutation(std::size_t n, std::size_t size, std::size_t factor) {
  const std::size_t half = size / 2, group = size << factor;
  std::vector<std::size_t> order;
  for (std::size_t begin = 0; begin < n; begin += group)
    for (const std::size_t odd : {std::size_t{0}, std::size_t{1}})
      for (std::size_t place = odd; place < group / half; place += 2)
        for (std::size_t i = 0; i < half; i++) order.push_back(begin + place * half + i);
  Array P = xt::zeros<double>({n, n});
  for (std::size_t i = 0; i < n; i++) P(i, order[i]) = 1;
  return P;
}
Array rotation_of(const Array& P) { return cayley_by_series(Array(0.5 * (P - transposed(P)))); }
// BOFT of P (m, blocks, b, b) and s (out, 1).
Array boft_of(const Array& x, const Array& W, const Array& bias, const Array& blocks_P, const Array& s) {
  const std::size_t m = blocks_P.shape()[0], count = blocks_P.shape()[1], b = blocks_P.shape()[2], n = count * b;
  Array turned = xt::eye<double>(n);
  for (std::size_t i = 0; i < m; i++) {
    Array blocks = xt::zeros<double>({n, n});
    for (std::size_t k = 0; k < count; k++) {
      const Array P = xt::view(blocks_P, i, k);
      xt::view(blocks, xt::range(k * b, (k + 1) * b), xt::range(k * b, (k + 1) * b)) = rotation_of(P);
    }
    const Array P = butterfly_permutation(n, b, i);
    turned = times(times(P, times(blocks, transposed(P))), turned);
  }
  return Array(times(times(x, turned), transposed(W)) * xt::flatten(s) + bias);
}

}  // namespace

TEST_CASE("OFT turns the input in blocks, by the series or exactly", "[adapters][gradcheck]") {
  for (const bool share : {false, true}) {
    const auto rotated = [share](const Array& triangles, const auto& rotation) {
      std::vector<Array> blocks;
      for (std::size_t k = 0; k < 3; k++) blocks.push_back(rotation(skew(triangles, share ? 0 : k, 4)));
      return block_diagonal(blocks);
    };
    check_method(OFTConfig{.oft_block_size = 4, .block_share = share, .use_cayley_neumann = false, .init_weights = false, .target_modules = map_name},
                 [&](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                   return map_of(times(x, rotated(t["oft_R.weight"], cayley_by_series)), W, bias);
                 });
    check_method(OFTConfig{.r = 3, .oft_block_size = 0, .block_share = share, .init_weights = false, .target_modules = map_name},
                 [&](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                   return map_of(times(x, rotated(t["oft_R.weight"],
                                                  [](const Array& Q) {
                                                    const Array Q2 = times(Q, Q);
                                                    return Array(xt::eye<double>(4) + 2 * Q + 2 * Q2 + 2 * times(Q2, Q) + times(Q2, Q2));
                                                  })),
                                 W, bias);
                 });
  }
  check_fresh(OFTConfig{.oft_block_size = 4, .target_modules = map_name}, 4);
  CHECK(nearest_divisor(576, 32) == 32);
  CHECK(nearest_divisor(96, 36) == 32);
  CHECK_THROWS_WITH(validate(OFTConfig{.r = 2}), Contains("r is 2 and oft_block_size is 32"));
}

TEST_CASE("COFT scales each Q down to its bound, and goes on from there when it trains", "[adapters]") {
  for (const bool share : {false, true}) {
    CAPTURE(share);
    OneLinear base;
    PeftModel tuned{base};
    tuned.add_adapter("a",
                      OFTConfig{.oft_block_size = 4, .block_share = share, .use_cayley_neumann = false, .coft = true, .eps = 0.3, .target_modules = map_name});
    std::vector<Parameter<double>> triangles;
    tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) { triangles.push_back(p); });
    REQUIRE(triangles.size() == 1);
    Tensor<double> large = normal(triangles[0].shape(), 5);
    if (!share)
      for (std::int64_t i = 0; i < 6; i++) large(0, i) *= 0.01;  // within its bound
    triangles[0].assign(large.clone());
    const double bound = 0.3 / std::sqrt(share ? 1.0 : 3.0);
    Array bounded = array(large);
    for (std::size_t k = 0; k < bounded.shape()[0]; k++) {
      const Array Q = skew(array(large), k, 4);
      const double norm = std::sqrt(xt::sum(Q * Q)());
      CHECK((norm > bound) == (share || k > 0));
      if (norm > bound) xt::view(bounded, k) *= bound / norm;
    }
    std::vector<Array> blocks;
    for (std::size_t k = 0; k < 3; k++) blocks.push_back(cayley_by_series(skew(bounded, share ? 0 : k, 4)));
    const Variable<double> x(normal({5, 12}, 3));
    triangles[0].set_requires_grad(false);
    const Array expected = map_of(times(array(x.value()), block_diagonal(blocks)), array(base.map.weight.value()), array(base.map.bias.value()));
    const Pass<double> pass = tuned.pass();
    const PassScope<double> scope(pass);
    CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(expected, 50));
    CHECK(same_bits(triangles[0].value(), large));  // frozen
    triangles[0].set_requires_grad(true);
    {
      Tape tape;
      const Variable<double> y = tuned.model().map(x);
      CHECK_THAT(array(y.value()), is_near<double>(expected, 50));
      tape.backward(y, Tensor<double>(y.shape(), 1.0));
      CHECK(triangles[0].grad());
    }
    CHECK_THAT(array(triangles[0].value()), is_near<double>(bounded));
    tuned.merge_adapter();
    CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(expected, 50));
  }
  CHECK_THROWS_WITH(validate(OFTConfig{.eps = 0}), Contains("eps is 0"));
}

TEST_CASE("BOFT turns the input exactly and scales what comes out, but not the bias", "[adapters][gradcheck]") {
  check_method(BOFTConfig{.boft_block_size = 4, .init_weights = false, .target_modules = map_name},
               [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                 std::vector<Array> blocks;
                 for (std::size_t k = 0; k < 3; k++) {
                   const Array P = xt::view(t["boft_R"], 0, k);
                   blocks.push_back(cayley_by_series(Array(0.5 * (P - transposed(P)))));
                 }
                 return Array(times(times(x, block_diagonal(blocks)), transposed(W)) * xt::flatten(t["boft_s"]) + bias);
               });
  check_fresh(BOFTConfig{.boft_block_size = 4, .target_modules = map_name}, 4);
  CHECK_THROWS_WITH(validate(BOFTConfig{.boft_block_size = 4, .boft_block_num = 2}), Contains("boft_block_size is 4 and boft_block_num is 2"));
  OneLinear base;
  PeftModel tuned{base};
  CHECK_THROWS_WITH(tuned.add_adapter("a", BOFTConfig{.boft_block_size = 5, .target_modules = map_name}),
                    Contains("boft_block_size is 5, which does not divide the 12 features of layers.0.map"));
}

TEST_CASE("BOFT's factors turn the input one after the other, each in blocks of its own", "[adapters][gradcheck]") {
  for (const auto& [size, factors, in] : std::vector<std::array<std::size_t, 3>>{{2, 2, 12}, {6, 2, 12}, {2, 3, 16}}) {
    CAPTURE(size, factors, in);
    check_method(
        BOFTConfig{.boft_block_size = std::int64_t(size), .boft_n_butterfly_factor = std::int64_t(factors), .init_weights = false, .target_modules = map_name},
        [](const Array& x, const Array& W, const Array& bias, const Tensors& t) { return boft_of(x, W, bias, t["boft_R"], t["boft_s"]); },
        OneLinear(std::int64_t(in)));
  }
  check_fresh(BOFTConfig{.boft_block_size = 2, .boft_n_butterfly_factor = 2, .target_modules = map_name}, 4);
  OneLinear base;
  PeftModel tuned{base};
  CHECK_THROWS_WITH(tuned.add_adapter("a", BOFTConfig{.boft_block_size = 3, .boft_n_butterfly_factor = 2, .target_modules = map_name}),
                    Contains("wants blocks of an even size") && Contains("blocks here have 3"));
  CHECK_THROWS_WITH(tuned.add_adapter("a", BOFTConfig{.boft_block_size = 0, .boft_block_num = 6, .boft_n_butterfly_factor = 3, .target_modules = map_name}),
                    Contains("4 of them to divide the 12 features"));
  CHECK_THROWS_WITH(validate(BOFTConfig{.boft_n_butterfly_factor = 0}), Contains("boft_n_butterfly_factor is 0"));
}

TEST_CASE("in training, BOFT leaves a share of one factor's blocks unturned, by the pass", "[adapters][gradcheck]") {
  const std::int64_t factors = 2, blocks = 4, b = 4;
  const BlockDropout<double> dropout{0.6, 5};
  const Variable<double> R(normal({factors * blocks, b, b}, 7));
  const std::size_t block_size = std::size_t(b * b);
  Pass<double> pass;
  pass.seed = 4;
  // Which blocks of R a pass makes identities; all others are as they were.
  const auto unturned = [&](const BlockDropout<double>& drop) {
    const PassScope<double> scope(pass);
    const Tensor<double> left = drop(R, blocks).value();
    std::vector<std::size_t> found;
    for (std::size_t k = 0; k < std::size_t(factors * blocks); k++) {
      const auto block = left.span().subspan(k * block_size, block_size);
      if (std::ranges::equal(block, R.value().span().subspan(k * block_size, block_size))) continue;
      found.push_back(k);
      for (std::size_t i = 0; i < block_size; i++) CHECK(block[i] == (i % std::size_t(b + 1) == 0 ? 1.0 : 0.0));
    }
    return found;
  };
  CHECK(unturned(dropout).empty());  // not training
  pass.training = true;
  CHECK(unturned({0, 5}).empty());
  CHECK(unturned({0.24, 5}).empty());  // less than one block, as PEFT rounds
  std::vector<int> times_unturned(8, 0);
  for (pass.forward = 0; pass.forward < 400; pass.forward++) {
    const auto found = unturned(dropout);
    REQUIRE(found.size() == 2);  // ⌊0.6 · 4⌋
    CHECK(found[0] / 4 == found[1] / 4);
    CHECK(found == unturned(dropout));
    for (const std::size_t k : found) times_unturned[k]++;
  }
  for (const int count : times_unturned) CHECK(std::abs(count - 100) < 40);  // 400 · 1/2 · 2/4, σ = 8.7
  pass.forward = 0;
  CHECK(unturned({0.6, 6}) != unturned({0.6, 9}));  // another site

  OneLinear base(16);
  PeftModel tuned{base};
  tuned.add_adapter(
      "a", BOFTConfig{.boft_block_size = b, .boft_n_butterfly_factor = factors, .boft_dropout = 0.6, .init_weights = false, .target_modules = map_name}, 3);
  Array P, s;
  std::vector<Parameter<double>> trained;
  tuned.for_each_adapter_parameter("a", [&](const std::string& path, Parameter<double>& p) {
    (path.ends_with("boft_R") ? P : s) = array(p.value());
    trained.push_back(p);
  });
  const Variable<double> x(normal({5, 16}, 3));
  const Array W = array(base.map.weight.value()), bias = array(base.map.bias.value());
  const std::uint64_t seed = pass.seed;
  pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{3, 2}));
  pass.seed = seed;
  const auto run = [&](const Variable<double>& in) {
    const PassScope<double> scope(pass);
    return tuned.model().map(in);
  };
  CHECK_THAT(array(run(x).value()), is_near<double>(boft_of(array(x.value()), W, bias, P, s), 50));  // not training
  pass.training = true;
  for (pass.forward = 0; pass.forward < 3; pass.forward++) {
    Array left = P;
    for (const std::size_t k : unturned({0.6, name_hash("layers.0.map")})) xt::view(left, k / 4, k % 4) = xt::zeros<double>({4, 4});
    CHECK_THAT(array(run(x).value()), is_near<double>(boft_of(array(x.value()), W, bias, left, s), 50));
    CHECK(gradcheck([&](const Variables& v) { return run(v[0]); }, {x.value()}, trained));
  }
  CHECK_THROWS_WITH(validate(BOFTConfig{.boft_dropout = 1}), Contains("boft_dropout is 1"));
}

TEST_CASE("HRA reflects the input", "[adapters][gradcheck]") {
  check_method(HRAConfig{.r = 3, .init_weights = false, .target_modules = map_name}, [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
    Array M = xt::eye<double>(12);
    for (std::size_t i = 0; i < 3; i++) {
      const Array u = xt::view(t["hra_u"], xt::all(), xt::range(i, i + 1));
      M = times(M, Array(xt::eye<double>(12) - 2 * times(u, transposed(u)) / xt::sum(u * u)()));
    }
    return map_of(x, times(W, M), bias);
  });
  check_fresh(HRAConfig{.r = 4, .target_modules = map_name});
  CHECK_THROWS_WITH(validate(HRAConfig{.r = 0}), Contains("[HRAConfig] r is 0"));
}

TEST_CASE("HRA with orthogonal directions reflects at all of them at once", "[adapters][gradcheck]") {
  check_method(HRAConfig{.r = 4, .apply_GS = true, .target_modules = map_name}, [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
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
  CHECK_THROWS_WITH(tuned.add_adapter("a", HRAConfig{.r = 13, .apply_GS = true, .target_modules = map_name}), Contains("no more than 12 directions"));
}
