// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/elementwise.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>
#include <xtensor/xmath.hpp>

#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

TEMPLATE_TEST_CASE("sums and products of matrices, with gaps and without", "[ops]", float, double) {
  using T = TestType;
  for (const Shape& shape : std::vector<Shape>{{1, 1}, {3, 5}, {17, 64}, {200, 131}})
    for (std::int64_t gap : {0, 3}) {
      CAPTURE(to_string(shape), gap);
      const auto place = [&](const Tensor<T>& t) { return gap ? with_gaps(t, gap) : t.clone(); };
      const Tensor<T> a = place(random_normal<T>(shape)), b = place(random_normal<T>(shape, 2)), y = place(poisoned<T>(shape));
      ops::copy<T>(y, a);
      CHECK_THAT(array(y), IsNear(array(a), 0));
      ops::add<T>(y, a, b);
      CHECK_THAT(array(y), is_near<T>(array(a) + array(b)));
      ops::add_into<T>(y, b);
      CHECK_THAT(array(y), is_near<T>(array(a) + 2 * array(b)));
      ops::multiply<T>(y, a, b);
      CHECK_THAT(array(y), is_near<T>(array(a) * array(b)));
      ops::axpy<T>(y, T(0.5), a);
      CHECK_THAT(array(y), is_near<T>(array(a) * array(b) + 0.5 * array(a)));
      y.fill(std::numeric_limits<T>::quiet_NaN());
      ops::scale<T>(y, T(-3), a);
      CHECK_THAT(array(y), is_near<T>(-3 * array(a)));
      ops::scale<T>(y, T(2), y);
      CHECK_THAT(array(y), is_near<T>(-6 * array(a)));
      ops::into<T>({y, false}, b);
      ops::into<T>({y, true}, a);
      ops::into<T>({}, a);
      CHECK_THAT(array(y), is_near<T>(array(a) + array(b)));
    }
  const Tensor<T> a({2, 3}), b({3, 2});
  CHECK_THROWS_AS(ops::add<T>(a, a, b), ShapeError);
  CHECK_THROWS_AS(ops::copy<T>(a, b), ShapeError);
}

TEMPLATE_TEST_CASE("log_softmax", "[ops]", float, double) {
  using T = TestType;
  for (const Shape& shape : std::vector<Shape>{{1, 1}, {4, 3}, {9, 100}, {2, 5003}}) {
    const Tensor<T> x = with_gaps(random_normal<T>(shape, 3, 20));
    const Array in = array(x);
    const Array largest = xt::amax(in, {1}, xt::keep_dims), moved = in - largest, e = xt::exp(moved), total = xt::sum(e, {1}, xt::keep_dims);
    ops::log_softmax<T>(x);
    CHECK_THAT(array(x), is_near<T>(moved - xt::log(total)));
  }
  const Tensor<T> far({1, 2}, std::vector<T>{T(-1e4), T(1e4)});
  ops::log_softmax<T>(far);
  CHECK(far[0] == T(-2e4));
  CHECK(far[1] == T(0));
}

TEMPLATE_TEST_CASE("a sum of squares has the same bits on any number of threads", "[ops]", float, double) {
  using T = TestType;
  for (const Shape& shape : std::vector<Shape>{{1, 3}, {50000}, {300, 401}}) {
    const Tensor<T> x = random_normal<T>(shape);
    double want = 0, one, two;
    for (T value : x.span()) want += double(value) * double(value);
    {
      const Threads guard(1);
      one = ops::sum_of_squares<T>(x);
    }
    const Threads guard(2);
    two = ops::sum_of_squares<T>(x);
    CHECK(one == Approx(want).epsilon(1e-12));
    CHECK(one == two);
    CHECK(ops::sum_of_squares<T>(with_gaps(x)) == Approx(want).epsilon(1e-12));
  }
}

TEMPLATE_TEST_CASE("all_finite sees one bad number", "[ops]", float, double) {
  using T = TestType;
  const Tensor<T> x = random_normal<T>({70, 401}), gaps = with_gaps(x);
  CHECK(ops::all_finite(x.view()));
  CHECK(ops::all_finite(gaps.view()));  // what lies in the gaps is NaN
  for (const T bad : {std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity(), std::numeric_limits<T>::quiet_NaN()})
    for (std::int64_t at : {std::int64_t(0), std::int64_t(5000), x.size() - 1}) {
      const T kept = x[at];
      x[at] = bad;
      CHECK_FALSE(ops::all_finite(x.view()));
      x[at] = kept;
    }
}

TEMPLATE_TEST_CASE("dropout drops by key, row key and column", "[ops]", float, double) {
  using T = TestType;
  const std::int64_t rows = 40, cols = 103;
  const Tensor<T> x({rows, cols}, T(1)), y = poisoned<T>({rows, cols}), again = poisoned<T>({1, cols});
  std::vector<std::uint64_t> keys;
  for (std::int64_t i = 0; i < rows; i++) keys.push_back(mix(7, std::uint64_t(i)));
  const DropoutKey key{99, 0.3};
  ops::dropout<T>(y, x, key, keys);
  std::int64_t kept = 0, differs = 0;
  for (std::int64_t i = 0; i < rows; i++)
    for (std::int64_t c = 0; c < cols; c++) {
      kept += y(i, c) != T(0);
      differs += y(i, c) != key.factor<T>(keys[std::size_t(i)], std::uint64_t(c));
    }
  CHECK(differs == 0);
  CHECK(double(kept) / double(rows * cols) == Approx(0.7).margin(0.03));
  // The same row elsewhere, in place.
  again.fill(T(1));
  ops::dropout<T>(again, again, key, std::vector<std::uint64_t>{keys[17]});
  CHECK(same_bits(again, y.row_range(17, 18)));
  CHECK_THROWS_AS(ops::dropout<T>(y, x, key, std::vector<std::uint64_t>{1}), ShapeError);
}
