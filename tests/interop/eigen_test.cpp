// SPDX-License-Identifier: Apache-2.0
#include "peft/interop/eigen.hpp"

#include <Eigen/LU>
#include <catch2/catch.hpp>
#include <concepts>
#include <vector>

#include "support/tensors.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
}

TEST_CASE("Eigen reads and writes a tensor where it lies", "[interop]") {
  const Tensor<float> t({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  auto map = as_eigen(t);
  CHECK(map.data() == t.data());
  CHECK(map(1, 0) == 4);
  map.row(0) *= 10;
  t(1, 2) = -6;
  CHECK(numbers(t) == std::vector<float>{10, 20, 30, 4, 5, -6});
  CHECK(map(1, 2) == -6);
  CHECK(as_eigen(t.view())(0, 1) == 20);
}

TEST_CASE("Eigen sees the rows of a part at their distance", "[interop]") {
  const Tensor<double> whole({3, 5}, 0.0), part = whole.columns(1, 3);
  as_eigen(part) << 1, 2, 3, 4, 5, 6;
  CHECK(numbers(whole) == std::vector<double>{0, 1, 2, 0, 0, 0, 3, 4, 0, 0, 0, 5, 6, 0, 0});
  CHECK((as_eigen(part) * as_eigen(part).transpose())(2, 2) == 61);
}

TEST_CASE("leading axes are rows, a vector is one row, a scalar one number", "[interop]") {
  CHECK(as_eigen(Tensor<float>({2, 3, 4})).rows() == 6);
  CHECK(as_eigen(Tensor<float>({2, 3, 4})).cols() == 4);
  CHECK(as_eigen(Tensor<float>({7})).rows() == 1);
  CHECK(as_eigen(Tensor<float>({7})).cols() == 7);
  CHECK(as_eigen(Tensor<float>({}, 3.0f)).size() == 1);
  CHECK(as_eigen(Tensor<float>({0, 4})).size() == 0);
}

TEST_CASE("a tensor of constants is read only in Eigen", "[interop]") {
  const Tensor<float> t({1, 2}, std::vector<float>{1, 2});
  const auto map = as_eigen(Tensor<const float>::borrow(t.data(), t.shape()));
  STATIC_REQUIRE(std::same_as<decltype(map.data()), const float*>);
  STATIC_REQUIRE((EigenMap<float>::Flags & Eigen::LvalueBit) != 0);
  STATIC_REQUIRE((EigenMap<const float>::Flags & Eigen::LvalueBit) == 0);
  CHECK(map.data() == t.data());
}

TEST_CASE("a matrix of Eigen's is a tensor where it lies", "[interop]") {
  RowMajor m(2, 3);
  m << 1, 2, 3, 4, 5, 6;
  const Tensor<float> t = as_tensor(m);
  CHECK(t.data() == m.data());
  CHECK(t.shape() == Shape{2, 3});
  CHECK_FALSE(t.sole_holder());  // so that nothing works in place on memory of the caller's
  t(0, 2) = 30;
  m(1, 0) = -4;
  CHECK(m(0, 2) == 30);
  CHECK(numbers(t) == std::vector<float>{1, 2, 30, -4, 5, 6});
  CHECK(as_eigen(t).data() == m.data());

  const RowMajor& constant = m;
  STATIC_REQUIRE(std::same_as<decltype(as_tensor(constant)), Tensor<const float>>);
  CHECK(as_tensor(constant).data() == m.data());
}

TEST_CASE("a block of rows and columns is a tensor with the matrix' distance of rows", "[interop]") {
  RowMajor m = RowMajor::Zero(4, 5);
  auto block = m.block(1, 2, 3, 2);
  const Tensor<float> t = as_tensor(block);
  CHECK(t.shape() == Shape{3, 2});
  CHECK(t.stride() == 5);
  CHECK_FALSE(t.contiguous());
  t.fill(7);
  CHECK(m.sum() == 42);
  CHECK(m(3, 3) == 7);
  CHECK(m(3, 4) == 0);
  CHECK_FALSE(t.can_grow_rows(4));  // what lies behind is not the tensor's
  CHECK(as_tensor(m.middleRows(1, 2)).data() == &m(1, 0));
}

TEST_CASE("vectors of Eigen's, columns as well as rows", "[interop]") {
  Eigen::VectorXd column = Eigen::VectorXd::LinSpaced(4, 0, 3);
  const Tensor<double> t = as_tensor(column);
  CHECK(t.shape() == Shape{4});
  CHECK(t.data() == column.data());
  CHECK(numbers(t) == std::vector<double>{0, 1, 2, 3});
  RowMajor m = RowMajor::Identity(3, 3);
  CHECK(as_tensor(m.row(1)).shape() == Shape{3});
  CHECK(as_tensor(m.row(1))[1] == 1);
}

TEST_CASE("a temporary matrix moves in and lives as long as the tensor", "[interop]") {
  RowMajor m = RowMajor::Constant(40, 50, 2);
  const float* const data = m.data();
  Tensor<float> t = as_tensor(std::move(m));
  CHECK(t.data() == data);
  const Tensor<float> part = t.columns(10, 20);
  t = {};
  CHECK(part(39, 9) == 2);
  const Tensor<float> product = as_tensor(RowMajor(RowMajor::Identity(3, 3) * 5));
  CHECK(numbers(product) == std::vector<float>{5, 0, 0, 0, 5, 0, 0, 0, 5});
}

TEST_CASE("dense algebra on tensors: a linear system solved in place", "[interop]") {
  const Tensor<double> a = random_normal<double>({6, 6}, 1), x = random_normal<double>({6, 2}, 2), b({6, 2});
  as_eigen(b) = as_eigen(a) * as_eigen(x);
  as_eigen(b) = as_eigen(a).partialPivLu().solve(as_eigen(b)).eval();
  CHECK((as_eigen(b) - as_eigen(x)).cwiseAbs().maxCoeff() < 1e-12);
}
