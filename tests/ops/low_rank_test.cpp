// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/low_rank.hpp"

#include <catch2/catch.hpp>
#include <vector>
#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>

#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

struct Size {
  std::int64_t n, in, out, r;
};
const std::vector<Size> sizes = {{1, 1, 1, 1},     {5, 7, 3, 2},      {1, 33, 17, 8},    {19, 1, 40, 4}, {13, 40, 1, 3},
                                 {70, 65, 31, 16}, {33, 130, 90, 47}, {20, 100, 70, 48}, {9, 60, 80, 64}};
constexpr double s = 0.7;

// A B
Array product(const Array& a, const Array& b) {
  return xt::sum(xt::view(a, xt::all(), xt::all(), xt::newaxis()) * xt::view(b, xt::newaxis(), xt::all(), xt::all()), {1});
}
template <class T>
struct Case {
  Tensor<T> x, A, B, y, dy;
  explicit Case(const Size& z)
      : x(with_gaps(random_normal<T>({z.n, z.in}))),
        A(random_normal<T>({z.r, z.in}, 2)),
        B(random_normal<T>({z.out, z.r}, 3)),
        y(with_gaps(random_normal<T>({z.n, z.out}, 4), 5)),
        dy(with_gaps(random_normal<T>({z.n, z.out}, 5), 1)) {}
};

}  // namespace

TEMPLATE_TEST_CASE("low rank: y += s (x Aᵀ) Bᵀ", "[ops]", float, double) {
  using T = TestType;
  for (const Size& z : sizes) {
    CAPTURE(z.n, z.in, z.out, z.r);
    const Case<T> c(z);
    const Array before = array(c.y), xa = product(array(c.x), xt::transpose(array(c.A)));
    const Tensor<T> kept = poisoned<T>({z.n, z.r});
    ops::low_rank_forward<T>(c.y, kept, c.x, c.A, c.B, T(s));
    CHECK_THAT(array(kept), is_near<T>(xa, 4));
    CHECK_THAT(array(c.y), is_near<T>(before + s * product(xa, xt::transpose(array(c.B))), 4));
  }
}

TEMPLATE_TEST_CASE("low rank gradients follow the formula, written or added", "[ops]", float, double) {
  using T = TestType;
  for (const Size& z : sizes) {
    const Case<T> c(z);
    const Tensor<T> xa({z.n, z.r});
    ops::low_rank_forward<T>(c.y, xa, c.x, c.A, c.B, T(s));
    const Array g = s * product(array(c.dy), array(c.B)), dx = product(g, array(c.A)), dA = product(xt::transpose(g), array(c.x)),
                dB = s * product(xt::transpose(array(c.dy)), product(array(c.x), xt::transpose(array(c.A))));
    for (const bool accumulate : {false, true}) {
      CAPTURE(z.n, z.in, z.out, z.r, accumulate);
      const auto made = [&](const Shape& shape, std::uint64_t seed) { return with_gaps(accumulate ? random_normal<T>(shape, seed) : poisoned<T>(shape)); };
      const Tensor<T> dx_found = made({z.n, z.in}, 6), dA_found = made({z.r, z.in}, 7), dB_found = made({z.out, z.r}, 8);
      const auto expected = [&](const Array& gradient, const Tensor<T>& before) { return accumulate ? Array(gradient + array(before)) : gradient; };
      const Array dx_expected = expected(dx, dx_found), dA_expected = expected(dA, dA_found), dB_expected = expected(dB, dB_found);
      ops::low_rank_backward<T>({dx_found, accumulate}, {dA_found, accumulate}, {dB_found, accumulate}, c.dy, c.x, xa, c.A, c.B, T(s));
      CHECK_THAT(array(dx_found), is_near<T>(dx_expected, 4));
      CHECK_THAT(array(dA_found), is_near<T>(dA_expected, 4));
      CHECK_THAT(array(dB_found), is_near<T>(dB_expected, 4));

      // Each may be nobody's; then the others are the same, and x is not asked for without dA.
      const Tensor<T> alone = made({z.n, z.in}, 6);
      ops::low_rank_backward<T>({alone, accumulate}, {}, {}, c.dy, View<const T>(), xa, c.A, c.B, T(s));
      CHECK(same_bits(alone, dx_found));
      const Tensor<T> dA_alone = made({z.r, z.in}, 7), dB_alone = made({z.out, z.r}, 8);
      ops::low_rank_backward<T>({}, {dA_alone, accumulate}, {}, c.dy, c.x, xa, c.A, c.B, T(s));
      CHECK(same_bits(dA_alone, dA_found));
      ops::low_rank_backward<T>({}, {}, {dB_alone, accumulate}, c.dy, View<const T>(), xa, c.A, c.B, T(s));
      CHECK(same_bits(dB_alone, dB_found));
    }
  }
}

TEST_CASE("low rank gradients are slopes", "[ops][gradcheck]") {
  const Case<double> c({5, 7, 4, 3});
  const auto f = [&] {
    const Tensor<double> y = Tensor<double>::zeros({5, 4}), xa({5, 3});
    ops::low_rank_forward<double>(y, xa, c.x, c.A, c.B, s);
    return dot(y, c.dy);
  };
  const Tensor<double> y = Tensor<double>::zeros({5, 4}), xa({5, 3}), dx({5, 7}), dA({3, 7}), dB({4, 3});
  ops::low_rank_forward<double>(y, xa, c.x, c.A, c.B, s);
  ops::low_rank_backward<double>({dx}, {dA}, {dB}, c.dy, c.x, xa, c.A, c.B, s);
  CHECK_THAT(array(dx), IsNear(differences(c.x, f), 1e-8));
  CHECK_THAT(array(dA), IsNear(differences(c.A, f), 1e-8));
  CHECK_THAT(array(dB), IsNear(differences(c.B, f), 1e-8));
}

TEMPLATE_TEST_CASE("low rank: a row has the same bits in any batch, everything on any number of threads", "[ops]", float, double) {
  using T = TestType;
  for (const Size& z : {Size{61, 100, 70, 8}, Size{61, 130, 33, 64}}) {
    const Case<T> c(z);
    std::vector<Tensor<T>> first;
    for (const int n : {1, 2, 4}) {
      const Threads guard(n);
      const Tensor<T> y = c.y.clone(), xa({z.n, z.r}), dx({z.n, z.in}), dA({z.r, z.in}), dB({z.out, z.r});
      ops::low_rank_forward<T>(y, xa, c.x, c.A, c.B, T(s));
      ops::low_rank_backward<T>({dx}, {dA}, {dB}, c.dy, c.x, xa, c.A, c.B, T(s));
      const std::vector<Tensor<T>> all = {y, xa, dx, dA, dB};
      if (first.empty()) first = all;
      for (std::size_t i = 0; i < all.size(); i++) CHECK(same_product(all[i], first[i]));
      for (const std::int64_t rows : {1, 2, 7}) {
        const Tensor<T> part = c.y.clone(), part_xa({z.n, z.r}), part_dx({z.n, z.in});
        for (std::int64_t i = 0; i < z.n; i += rows) {
          const std::int64_t end = std::min(z.n, i + rows);
          ops::low_rank_forward<T>(part.view().row_range(i, end), part_xa.view().row_range(i, end), c.x.view().row_range(i, end), c.A, c.B, T(s));
          ops::low_rank_backward<T>({part_dx.view().row_range(i, end)}, {}, {}, c.dy.view().row_range(i, end), View<const T>(),
                                    part_xa.view().row_range(i, end), c.A, c.B, T(s));
        }
        CHECK(same_product(part, first[0]));
        CHECK(same_product(part_xa, first[1]));
        CHECK(same_product(part_dx, first[2]));
      }
    }
  }
}
