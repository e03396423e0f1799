// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/embedding.hpp"

#include <catch2/catch.hpp>
#include <vector>

#include "peft/ops/quantized.hpp"
#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

TEMPLATE_TEST_CASE("embedding takes rows by id, from any storage", "[ops]", float, double) {
  using T = TestType;
  const std::int64_t vocabulary = 11, cols = 64;
  const std::vector<std::int32_t> ids = {3, 0, 10, 3, 7};
  const Tensor<float> rows = random_normal<float>({vocabulary, cols});
  for (DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_1}) {
    CAPTURE(name(type));
    std::vector<std::byte> bytes(std::size_t(bytes_of(type, vocabulary * cols)));
    for (std::int64_t r = 0; r < vocabulary; r++) ops::quantize(bytes.data() + bytes_of(type, r * cols), type, rows.view().row(r), cols);
    const ops::WeightView w(bytes.data(), type, vocabulary, cols);
    const Tensor<T> y = with_gaps(poisoned<T>({5, cols})), wide({vocabulary, cols});
    ops::widen<T>(wide, w);
    for (const T scale : {T(1), T(8)}) {
      ops::embedding_forward<T>(y, ids, w, scale);
      for (std::int64_t n = 0; n < 5; n++)
        for (std::int64_t c = 0; c < cols; c++) REQUIRE(y(n, c) == scale * wide(ids[std::size_t(n)], c));
    }
  }
}

TEMPLATE_TEST_CASE("embedding's gradient adds rows in order", "[ops]", float, double) {
  using T = TestType;
  const std::int64_t vocabulary = 9, cols = 333, n = 50;
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < n; i++) ids.push_back(std::int32_t(i * i % vocabulary));
  const Tensor<T> dy = with_gaps(random_normal<T>({n, cols})), start = random_normal<T>({vocabulary, cols}, 2);
  for (std::int32_t padding : {-1, 4}) {
    Array want = xt::zeros<double>({std::size_t(vocabulary), std::size_t(cols)});
    for (std::int64_t i = 0; i < n; i++)
      for (std::int64_t c = 0; c < cols; c++)
        if (ids[std::size_t(i)] != padding) want(std::size_t(ids[std::size_t(i)]), std::size_t(c)) += 0.5 * double(dy(i, c));
    Tensor<T> results[2];
    for (int threads : {1, 2}) {
      const Threads guard(threads);
      const Tensor<T> dw = poisoned<T>({vocabulary, cols}), sum = start.clone();
      ops::embedding_backward<T>({dw, false}, dy, ids, T(0.5), padding);
      ops::embedding_backward<T>({sum, true}, dy, ids, T(0.5), padding);
      CHECK_THAT(array(dw), is_near<T>(want));
      CHECK_THAT(array(sum), is_near<T>(array(start) + want));
      results[threads - 1] = dw;
    }
    CHECK(same_bits(results[0], results[1]));
  }
}

TEST_CASE("embedding refuses ids that are not there", "[ops]") {
  const Tensor<float> w({5, 4}, 1.0f), y({2, 4});
  for (const std::int32_t bad : {5, -1}) {
    const std::vector<std::int32_t> ids = {0, bad};
    CHECK_THROWS_AS(ops::embedding_forward<float>(y, ids, ops::WeightView(w.view())), ShapeError);
    const Tensor<float> dw({5, 4});
    if (bad == 5) CHECK_THROWS_AS(ops::embedding_backward<float>({dw, false}, y, ids), ShapeError);
  }
}
