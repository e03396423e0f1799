// SPDX-License-Identifier: Apache-2.0
#include "peft/autograd/parameter.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <vector>

#include "peft/autograd/functions/linear.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
// (rows, cols) random numbers as a file of this type holds them, and what they widen to.
struct File {
  std::shared_ptr<std::vector<std::byte>> bytes;
  Tensor<float> values;
  File(DType type, std::int64_t rows, std::int64_t cols)
      : bytes(std::make_shared<std::vector<std::byte>>(std::size_t(bytes_of(type, rows * cols)))), values({rows, cols}) {
    const Tensor<float> random = random_normal<float>({rows, cols}, 3);
    for (std::int64_t r = 0; r < rows; r++) ops::quantize(bytes->data() + bytes_of(type, r * cols), type, random.view().row(r), cols);
    ops::widen<float>(values.view(), view(type));
  }
  ops::WeightView view(DType type) const { return {bytes->data(), type, values.rows(), values.cols()}; }
};
}  // namespace

TEST_CASE("a stored parameter reads its file and never writes to it", "[autograd]") {
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_1}) {
    CAPTURE(name(type));
    const File file(type, 4, 64);
    const std::vector<std::byte> before = *file.bytes;
    const Parameter<float> p(file.view(type), {4, 64}, file.bytes);
    CHECK(p.is_stored());
    CHECK(p.dtype() == type);
    CHECK(p.size() == 256);
    CHECK(p.bytes() == bytes_of(type, 256));
    CHECK_FALSE(p.requires_grad());
    CHECK(same_bits(p.dense(), file.values));
    CHECK(p.view().data == file.bytes->data());
    if (type == DType::f32)
      CHECK(static_cast<const void*>(p.value().data()) == file.bytes->data());  // as it is
    else
      CHECK_THROWS_WITH(p.value(), Catch::Contains(std::string(name(type))) && Catch::Contains("(4, 64)"));

    const Variable<float> x(random_normal<float>({3, 64}));
    const Tensor<float> frozen_y = linear(x, p).value();
    const Parameter<float> tied = p;
    p.set_requires_grad(true);  // thaws: a copy, at every site
    CHECK(tied.requires_grad());
    CHECK_FALSE(tied.is_stored());
    CHECK(tied.dtype() == DType::f32);
    CHECK(tied.bytes() == 256 * 4);
    CHECK(same_bits(tied.value(), file.values));
    CHECK(same_bits(linear(x, tied).value(), frozen_y));
    p.value()[0] = 1e9f;
    CHECK(tied.value()[0] == 1e9f);
    CHECK(*file.bytes == before);
    p.set_requires_grad(false);  // keeps the copy
    CHECK(tied.value()[0] == 1e9f);
    CHECK_FALSE(tied.is_stored());
    CHECK(file.bytes.use_count() == 1);  // and has let go of the file
  }
}

TEST_CASE("an unaligned tensor of a file is still readable", "[autograd]") {
  const File file(DType::f32, 3, 8);
  std::vector<std::byte> shifted(file.bytes->size() + 1);
  std::memcpy(shifted.data() + 1, file.bytes->data(), file.bytes->size());
  const Parameter<float> p(ops::WeightView(shifted.data() + 1, DType::f32, 3, 8), {3, 8}, nullptr);
  CHECK(same_bits(p.dense(), file.values));
  const Parameter<double> wide(ops::WeightView(file.bytes->data(), DType::f32, 3, 8), {3, 8}, nullptr);  // a file's float32 in a double model
  CHECK(numbers(wide.dense()) == numbers(cast<double>(file.values)));
}

TEST_CASE("a stored vector is there as numbers", "[autograd]") {
  const File file(DType::f16, 1, 32);
  const Parameter<double> p(file.view(DType::f16), {32}, file.bytes);
  CHECK(p.shape() == Shape{32});
  CHECK(p.is_stored());
  CHECK(numbers(p.value()) == numbers(cast<double>(file.values)));
  p.set_requires_grad(true);
  CHECK(p.value().shape() == Shape{32});
  CHECK(numbers(p.value()) == numbers(cast<double>(file.values)));
}

TEST_CASE("a weight that its file holds the other way round is seen as (out, in)", "[autograd]") {
  const File file(DType::f16, 6, 4);  // (in, out), as GPT-2's Conv1D
  ops::WeightView stored = file.view(DType::f16);
  stored.transposed = true, stored.rows = 4, stored.cols = 6;
  const Parameter<float> p(stored, {4, 6}, file.bytes);
  const Tensor<float> dense = p.dense();
  for (std::int64_t i = 0; i < 4; i++)
    for (std::int64_t j = 0; j < 6; j++) CHECK(dense(i, j) == file.values(j, i));
  p.thaw();
  CHECK(same_bits(p.value(), dense));
}

TEST_CASE("rows that GGUF permutes come in Hugging Face's order", "[autograd]") {
  const File file(DType::q8_0, 8, 32);
  ops::WeightView stored = file.view(DType::q8_0);
  stored.rope_head_dim = 4;  // two heads: stored pairs (0, 2), (1, 3) lie side by side
  const Parameter<float> p(stored, {8, 32}, file.bytes);
  const Tensor<float> dense = p.dense();
  const std::vector<std::int64_t> stored_row = {0, 2, 1, 3, 4, 6, 5, 7};
  for (std::int64_t r = 0; r < 8; r++)
    CHECK(same_bits(dense.row_range(r, r + 1).clone(), file.values.row_range(stored_row[std::size_t(r)], stored_row[std::size_t(r)] + 1).clone()));
  const Variable<float> x(random_normal<float>({3, 32}));
  CHECK_THAT(array(linear(x, p).value()), is_near<float>(array(linear(x, Parameter<float>(dense)).value())));
}

TEST_CASE("assign replaces numbers for every handle and checks their shape", "[autograd]") {
  const Parameter<double> p(normal({2, 3})), tied = p;
  const std::uint64_t version = p.version();
  const Tensor<double> fresh = normal({2, 3}, 5);
  p.assign(fresh);
  CHECK(same_bits(tied.value(), fresh));
  CHECK(tied.value().data() != fresh.data());  // the caller still holds his
  CHECK(tied.version() > version);
  CHECK(tied.identity() == p.identity());
  CHECK_THROWS_WITH(p.assign(normal({3, 2})), "[assign] (3, 2) to a parameter of shape (2, 3)");
  CHECK(Parameter<double>(normal({2, 3})).identity() != p.identity());
}

TEST_CASE("an absent parameter is nobody's", "[autograd]") {
  const Parameter<double> none;
  CHECK_FALSE(none);
  CHECK(none.size() == 0);
  CHECK(none.bytes() == 0);
  CHECK_FALSE(none.requires_grad());
  CHECK_FALSE(none.gradient());
  CHECK_FALSE(none.is_stored());
  CHECK(none.identity() == nullptr);
  none.set_requires_grad(true);
  none.zero_grad();
  CHECK_FALSE(none.requires_grad());
}
