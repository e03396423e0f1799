// SPDX-License-Identifier: Apache-2.0
// The functions that adapters compose their small matrices of, against central differences and xtensor.
#include <catch2/catch.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "peft/autograd/functions/rows.hpp"
#include "support/gradients.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
std::shared_ptr<const ops::GatherMap> gather_map(std::vector<std::int64_t> from, std::vector<std::int8_t> sign = {}) {
  auto map = std::make_shared<ops::GatherMap>();
  map->from = std::move(from), map->sign = std::move(sign);
  return map;
}
}  // namespace

TEST_CASE("scaled and shifted rows and columns have their gradients", "[autograd][gradcheck]") {
  check_function([](const Variables& v) { return scale_columns(v[0], v[1]); }, {normal({5, 3}), normal({3}, 2)});
  check_function([](const Variables& v) { return scale_rows(v[0], v[1]); }, {normal({5, 3}), normal({5}, 2)});
  check_function([](const Variables& v) { return add_row(v[0], 1.5, v[1]); }, {normal({5, 3}), normal({3}, 2)});
  check_function([](const Variables& v) { return add_constant_row(v[0], -1.0, normal({3}, 2)); }, {normal({5, 3})});
  check_function([](const Variables& v) { return concat_columns<double>({v[0], v[1], v[0]}); }, {normal({5, 3}), normal({5, 2}, 2)});
  check_function([](const Variables& v) { return fold_columns(v[0], 3); }, {normal({5, 8})});
  check_function([](const Variables& v) { return rotate_halves(v[0], 4); }, {normal({5, 8})});
  check_function(
      [](const Variables& v) {
        return permute_columns(v[0], std::make_shared<const std::vector<std::int64_t>>(std::vector<std::int64_t>{2, 0, 1}));
      },
      {normal({5, 3})});
}

TEST_CASE("functions of rows have their gradients", "[autograd][gradcheck]") {
  check_function([](const Variables& v) { return softmax_rows(v[0]); }, {normal({3, 4})});
  check_function([](const Variables& v) { return row_norms(v[0]); }, {normal({3, 4})});
  CHECK(row_norms(Variable<double>(Tensor<double>::zeros({2, 3})), 1e-4).value()[1] == 1e-4);
}

TEST_CASE("gathered, replaced and mixed rows have their gradients", "[autograd][gradcheck]") {
  check_function([](const Variables& v) { return gather(v[0], gather_map({2, -1, 0, 2}, {1, 1, -1, -1}), {2, 2}); }, {normal({3})});
  check_function([](const Variables& v) { return gather(v[0], gather_map({1, 1, 0, -1}), {4}); }, {normal({3})});
  const Ids which = {-1, 1, 0, 1};
  check_function([&](const Variables& v) { return replace_rows(v[0], v[1], which, 1.5); }, {normal({4, 3}), normal({2, 3}, 2)});
  check_function([](const Variables& v) { return replace_columns(v[0], v[1], {2, 0}); }, {normal({4, 3}), normal({4, 2}, 2)});
  const std::vector<std::int32_t> ids = {2, 0, 2};
  check_function([&](const Variables& v) { return embed_columns<double>(ids, v[0]); }, {normal({3, 4})});
  check_function([](const Variables& v) { return mix_top_rows(v[0], v[1], 2); }, {normal({3, 5}), normal({5, 4}, 2)});
}
