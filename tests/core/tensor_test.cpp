// SPDX-License-Identifier: Apache-2.0
#include "peft/core/tensor.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "support/tensors.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
// 0, 1, 2, …
Tensor<float> counting(const Shape& shape) {
  Tensor<float> t(shape);
  float n = 0;
  for (float& value : t.span()) value = n++;
  return t;
}
}  // namespace

TEST_CASE("a shape is rows and columns, whatever its rank", "[core]") {
  const Shape shape{2, 3, 5};
  CHECK(shape.rank() == 3);
  CHECK(shape.rows() == 6);
  CHECK(shape.columns() == 5);
  CHECK(shape.size() == 30);
  CHECK(shape[-1] == 5);
  CHECK(shape[0] == 2);
  CHECK(to_string(shape) == "(2, 3, 5)");
  CHECK(Shape{}.size() == 1);  // a scalar
  CHECK(to_string(Shape{}) == "()");
  CHECK(Shape{0, 4}.size() == 0);
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
  CHECK_THROWS_WITH((Shape{1, 2, 3, 4, 5, 6, 7}), "[shape] 7 dimensions, at most 6 are supported");
}

TEST_CASE("a copied tensor is another handle on the same numbers", "[core]") {
  const Tensor<float> a = counting({2, 3});
  CHECK(a.sole_holder());
  {
    const Tensor<float> b = a;
    b(1, 2) = 50;
    CHECK_FALSE(a.sole_holder());
    CHECK_FALSE(b.sole_holder());
  }
  CHECK(a(1, 2) == 50);
  CHECK(a.sole_holder());
  const Tensor<float> c = a.clone();
  c(0, 0) = 7;
  CHECK(a(0, 0) == 0);
  CHECK(c.sole_holder());
}

TEST_CASE("rows and columns of a tensor are views into it", "[core]") {
  const Tensor<float> t = counting({4, 6});
  const Tensor<float> rows = t.row_range(1, 3), part = t.columns(2, 5), corner = part.row_range(2, 4);
  CHECK(rows.shape() == Shape{2, 6});
  CHECK(rows(0, 0) == 6);
  CHECK(rows.contiguous());
  CHECK(part.shape() == Shape{4, 3});
  CHECK(part.stride() == 6);
  CHECK_FALSE(part.contiguous());
  CHECK(part.row_range(0, 1).contiguous());
  CHECK(corner(1, 2) == 22);
  corner(1, 2) = -1;
  CHECK(t(3, 4) == -1);
  corner.fill(9);
  CHECK(numbers(t) == std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 9, 9, 9, 17, 18, 19, 9, 9, 9, 23});
  CHECK(numbers(part.clone()) == numbers(part));
  CHECK(part.clone().contiguous());
  CHECK(t.view().columns(2, 5)(3, 2) == 9);
  CHECK(t.view().row_range(1, 2).row(0) == t.data() + 6);

  CHECK_THROWS_AS(t.columns(2, 7), ShapeError);
  CHECK_THROWS_AS(t.columns(-1, 2), ShapeError);
  CHECK_THROWS_AS(t.columns(3, 2), ShapeError);
  CHECK_THROWS_AS(t.row_range(2, 5), ShapeError);
  CHECK_THROWS_AS(t.row_range(-1, 2), ShapeError);
  CHECK_THROWS_WITH(t.row_range(2, 5), Catch::Contains("2..5") && Catch::Contains("(4, 6)"));
}

TEST_CASE("a view holds the memory alone once the whole is gone", "[core]") {
  Tensor<float> t = counting({4, 2});
  const Tensor<float> rows = t.row_range(2, 4);
  CHECK_FALSE(rows.sole_holder());
  t = {};
  CHECK(rows.sole_holder());
  CHECK(rows(1, 1) == 7);
}

TEST_CASE("reshape keeps the order, or refuses", "[core]") {
  const Tensor<float> t = counting({2, 6});
  const Tensor<float> cube = t.reshape({2, 2, 3});
  CHECK(cube.rows() == 4);
  CHECK(cube(3, 2) == 11);
  CHECK(cube.data() == t.data());
  CHECK(t.columns(0, 4).reshape({2, 1, 4})(1, 0) == 6);  // apart rows may get more axes, not another width
  CHECK_THROWS_AS(t.columns(0, 4).reshape({8}), ShapeError);
  CHECK_THROWS_WITH(t.reshape({5}), "[reshape] (2, 6) cannot be seen as (5)");
}

TEST_CASE("neighbouring rows can be joined again, not beyond the memory", "[core]") {
  const Tensor<float> t = counting({4, 3});
  const Tensor<float> two = t.row_range(1, 3);
  CHECK(two.can_grow_rows(3));
  CHECK_FALSE(two.can_grow_rows(4));
  CHECK(numbers(two.grow_rows(3)) == std::vector<float>{3, 4, 5, 6, 7, 8, 9, 10, 11});
  const Tensor<float> part = t.columns(1, 3).row_range(0, 1);
  CHECK(part.can_grow_rows(4));
  CHECK_FALSE(part.can_grow_rows(5));
}

TEST_CASE("values must be as many as the shape says", "[core]") {
  const std::vector<float> values = {1, 2, 3};
  CHECK(Tensor<float>({3}, values)[2] == 3);
  CHECK_THROWS_WITH(Tensor<float>({2, 2}, values), "[tensor] 3 values for the shape (2, 2)");
}

TEST_CASE("a scalar has one number; an empty tensor none", "[core]") {
  const Tensor<double> scalar({}, 3.0);
  CHECK(scalar.size() == 1);
  CHECK(scalar[0] == 3);
  CHECK(Tensor<double>().size() == 0);
  CHECK_FALSE(Tensor<double>());
  CHECK(Tensor<double>({0, 5}).size() == 0);
}

TEST_CASE("borrowed memory is not copied, is never ours to write into, and is kept alive", "[core]") {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3, 4});
  const std::weak_ptr<const void> watch = owner;
  {
    const Tensor<float> t = Tensor<float>::borrow(owner->data(), {2, 2}, owner);
    CHECK(t.data() == owner->data());
    CHECK_FALSE(t.sole_holder());
    owner.reset();
    CHECK_FALSE(watch.expired());
    CHECK(t.row_range(1, 2)(0, 1) == 4);
  }
  CHECK(watch.expired());
  float stack[2] = {5, 6};
  CHECK_FALSE(Tensor<float>::borrow(stack, {2}).sole_holder());  // nor if nobody says who owns it
}

TEST_CASE("dtypes know their sizes and names", "[core]") {
  CHECK(name(DType::q4_1) == "Q4_1");
  CHECK(name(DType::bf16) == "BF16");
  CHECK(bytes_of(DType::q8_0, 64) == 68);
  CHECK(bytes_of(DType::q4_k, 512) == 288);
  CHECK(bytes_of(DType::f16, 3) == 6);
  CHECK(is_quantized(DType::q6_k));
  CHECK_FALSE(is_quantized(DType::bf16));
  CHECK(info(DType::q8_0).floating);
  CHECK_FALSE(info(DType::i32).floating);
  CHECK(dtype_of<float> == DType::f32);
  CHECK(dtype_of<double> == DType::f64);
  CHECK(dtype_of<std::int64_t> == DType::i64);
}
