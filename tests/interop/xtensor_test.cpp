// SPDX-License-Identifier: Apache-2.0
#include "peft/interop/xtensor.hpp"

#include <catch2/catch.hpp>
#include <concepts>
#include <vector>
#include <xtensor/xarray.hpp>
#include <xtensor/xmath.hpp>
#include <xtensor/xtensor.hpp>
#include <xtensor/xview.hpp>

#include "support/tensors.hpp"

using namespace peft;
using namespace peft::testing;

TEST_CASE("xtensor reads and writes a tensor where it lies", "[interop]") {
  const Tensor<float> t({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  auto a = as_xtensor(t);
  CHECK(a.data() == t.data());
  CHECK(a.shape() == std::vector<std::size_t>{2, 3});
  CHECK(a(1, 0) == 4);
  xt::view(a, 0) *= 10;
  t(1, 2) = -6;
  CHECK(numbers(t) == std::vector<float>{10, 20, 30, 4, 5, -6});
  CHECK(a(1, 2) == -6);
  CHECK(xt::sum(a)() == 63);
}

TEST_CASE("every axis keeps its place, whatever the rank and the gaps between rows", "[interop]") {
  const Tensor<double> t = random_normal<double>({2, 3, 4}), gaps = with_gaps(t).reshape({2, 3, 4});
  const auto a = as_xtensor(t), b = as_xtensor(gaps);
  REQUIRE(b.shape() == std::vector<std::size_t>{2, 3, 4});
  CHECK(b.data() == gaps.data());
  for (std::size_t i = 0; i < 2; i++)
    for (std::size_t j = 0; j < 3; j++)
      for (std::size_t k = 0; k < 4; k++) {
        CHECK(a(i, j, k) == t[std::int64_t(12 * i + 4 * j + k)]);
        CHECK(b(i, j, k) == a(i, j, k));
      }
  CHECK(xt::sum(b)() == Approx(xt::sum(a)()));
  const Array doubled = b * 2, sum = a + b;
  CHECK(doubled == sum);
  auto written = as_xtensor(gaps);
  written += b;
  written = written * -0.5;  // both go through a temporary of xtensor's
  CHECK(gaps(5, 3) == -t(5, 3));
  CHECK(std::isnan(gaps.data()[4]));  // what stands between the rows is untouched
}

TEST_CASE("scalars, vectors, axes of one and of no elements", "[interop]") {
  CHECK(as_xtensor(Tensor<float>({}, 3.0f))() == 3);
  const Tensor<float> v({3}, std::vector<float>{1, 2, 3});
  CHECK(as_xtensor(v)(2) == 3);
  CHECK(as_xtensor(Tensor<float>({0, 4})).size() == 0);
  const Tensor<float> column = Tensor<float>({3, 4}, 5.0f).columns(1, 2);
  CHECK(as_xtensor(column).shape() == std::vector<std::size_t>{3, 1});
  CHECK(xt::sum(as_xtensor(column))() == 15);
}

TEST_CASE("a tensor of constants is read only in xtensor", "[interop]") {
  const Tensor<float> t({1, 2}, std::vector<float>{1, 2});
  auto a = as_xtensor(Tensor<const float>::borrow(t.data(), t.shape()));
  STATIC_REQUIRE(std::same_as<decltype(a.data()), const float*>);
  STATIC_REQUIRE(std::same_as<decltype(a(0, 0)), const float&>);
  CHECK(a(0, 1) == 2);
}

TEST_CASE("an array of xtensor's is a tensor where it lies", "[interop]") {
  xt::xarray<float> a = {{1, 2, 3}, {4, 5, 6}};
  const Tensor<float> t = as_tensor(a);
  CHECK(t.data() == a.data());
  CHECK(t.shape() == Shape{2, 3});
  CHECK_FALSE(t.sole_holder());  // so that nothing works in place on memory of the caller's
  t(0, 2) = 30;
  a(1, 0) = -4;
  CHECK(a(0, 2) == 30);
  CHECK(numbers(t) == std::vector<float>{1, 2, 30, -4, 5, 6});

  const xt::xarray<float>& constant = a;
  STATIC_REQUIRE(std::same_as<decltype(as_tensor(constant)), Tensor<const float>>);
  CHECK(as_tensor(constant).data() == a.data());

  xt::xtensor<double, 3> cube = xt::ones<double>({2, 3, 4});
  CHECK(as_tensor(cube).shape() == Shape{2, 3, 4});
  CHECK(as_tensor(cube).data() == cube.data());
  xt::xarray<float> scalar = 5.0f, nothing = xt::zeros<float>({0, 3}), column = xt::ones<float>({4, 1});
  CHECK(as_tensor(scalar).shape() == Shape{});
  CHECK(as_tensor(scalar)[0] == 5);
  CHECK(as_tensor(nothing).shape() == Shape{0, 3});
  CHECK(as_tensor(column).contiguous());
}

TEST_CASE("a view is a tensor if its rows are dense and at one distance", "[interop]") {
  xt::xarray<float> a = xt::zeros<float>({4, 6});
  auto view = xt::view(a, xt::range(1, 4), xt::range(2, 5));
  const Tensor<float> t = as_tensor(view);
  CHECK(t.shape() == Shape{3, 3});
  CHECK(t.stride() == 6);
  CHECK(t.data() == &a(1, 2));
  t.fill(7);
  CHECK(xt::sum(a)() == 63);
  CHECK(a(3, 4) == 7);
  CHECK(a(3, 5) == 0);
  CHECK_FALSE(t.can_grow_rows(4));  // what lies behind is not the tensor's

  auto second = xt::view(a, xt::range(0, 4, 2), xt::all());
  CHECK(as_tensor(second).stride() == 12);
  auto thin = xt::view(a, xt::all(), xt::range(0, 6, 2));
  auto turned = xt::view(a, xt::range(3, xt::placeholders::_, -1), xt::all());
  CHECK_THROWS_WITH(as_tensor(thin), "[as_tensor] an expression (4, 3) whose strides no row-major tensor has; evaluate it with xt::eval");
  CHECK_THROWS_AS(as_tensor(turned), ShapeError);
  xt::xarray<float> cube = xt::zeros<float>({2, 3, 4});
  auto middle = xt::view(cube, xt::all(), xt::range(0, 2), xt::all());  // planes further apart than two rows
  CHECK_THROWS_AS(as_tensor(middle), ShapeError);
  auto planes = xt::view(cube, xt::all(), xt::all(), xt::range(1, 3));
  CHECK(as_tensor(planes).shape() == Shape{2, 3, 2});
  CHECK(as_tensor(planes).stride() == 4);
}

TEST_CASE("a temporary array moves in and lives as long as the tensor", "[interop]") {
  xt::xarray<double> a = xt::ones<double>({40, 50}) * 2;
  const double* const data = a.data();
  Tensor<double> t = as_tensor(std::move(a));
  CHECK(t.data() == data);
  const Tensor<double> part = t.columns(10, 20);
  t = {};
  CHECK(part(39, 9) == 2);
  CHECK(numbers(as_tensor(xt::xarray<float>{1, 2})) == std::vector<float>{1, 2});
}

TEST_CASE("there and back is the same memory", "[interop]") {
  const Tensor<float> t = random_normal<float>({3, 4});
  auto a = as_xtensor(t);
  CHECK(as_tensor(a).data() == t.data());
  CHECK(same_bits(as_tensor(a), t));
}
