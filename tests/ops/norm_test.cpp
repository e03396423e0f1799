// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/norm.hpp"

#include <catch2/catch.hpp>
#include <vector>
#include <xtensor/xmath.hpp>

#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

constexpr double eps = 1e-5;

Array mean_square(const Array& x) { return xt::mean(x * x, {1}, xt::keep_dims); }
Array rms_norm(const Array& x, const Array& w, double offset) { return x / xt::sqrt(mean_square(x) + eps) * (w + offset); }
Array layer_norm(const Array& x, const Array& w, const Array& b) {
  const Array mean = xt::mean(x, {1}, xt::keep_dims), centred = x - mean;
  return centred / xt::sqrt(mean_square(centred) + eps) * w + b;
}

struct Size {
  std::int64_t rows, cols;
};
const std::vector<Size> sizes = {{1, 1}, {5, 7}, {3, 16}, {33, 64}, {70, 129}, {2, 576}, {130, 300}};

}  // namespace

TEMPLATE_TEST_CASE("rms_norm divides by the root mean square", "[ops]", float, double) {
  using T = TestType;
  for (const auto& [rows, cols] : sizes)
    for (const T offset : {T(0), T(1)}) {
      CAPTURE(rows, cols, offset);
      const Tensor<T> x = with_gaps(random_normal<T>({rows, cols})), w = random_normal<T>({cols}, 2), y = with_gaps(poisoned<T>({rows, cols}), 5),
                      inv_rms = poisoned<T>({rows, 1});
      ops::rms_norm_forward<T>(y, inv_rms.data(), x, w.data(), T(eps), offset);
      CHECK_THAT(array(y), is_near<T>(rms_norm(array(x), array(w), double(offset))));
      CHECK_THAT(array(inv_rms), is_near<T>(1 / xt::sqrt(mean_square(array(x)) + eps)));
    }
}

TEMPLATE_TEST_CASE("layer_norm centres and scales", "[ops]", float, double) {
  using T = TestType;
  for (const auto& [rows, cols] : sizes) {
    if (cols == 1) continue;  // nothing is left of one element but the bias
    CAPTURE(rows, cols);
    const Tensor<T> x = with_gaps(random_normal<T>({rows, cols})), w = random_normal<T>({cols}, 2), b = random_normal<T>({cols}, 3),
                    y = poisoned<T>({rows, cols}), statistics = poisoned<T>({rows, 2});
    ops::layer_norm_forward<T>(y, statistics, x, w.data(), b.data(), T(eps));
    CHECK_THAT(array(y), is_near<T>(layer_norm(array(x), array(w), array(b)), 2));
    ops::layer_norm_forward<T>(y, statistics, x, w.data(), nullptr, T(eps));
    CHECK_THAT(array(y), is_near<T>(layer_norm(array(x), array(w), xt::zeros<double>({std::size_t(cols)})), 2));
  }
}

TEST_CASE("a large mean does not spoil layer_norm", "[ops]") {
  Tensor<float> x = random_normal<float>({4, 96});
  for (float& value : x.span()) value += 1000;
  const Tensor<float> w({96}, 1.0f), y = poisoned<float>({4, 96}), statistics({4, 2});
  ops::layer_norm_forward<float>(y, statistics, x, w.data(), nullptr, float(eps));
  CHECK_THAT(array(y), IsNear(layer_norm(array(x), array(w), xt::zeros<double>({96})), 1e-4));
}

TEST_CASE("the norms' gradients are the slopes", "[ops][gradcheck]") {
  for (const auto& [rows, cols] : std::vector<Size>{{3, 5}, {4, 8}, {35, 9}}) {
    CAPTURE(rows, cols);
    const Tensor<double> x = random_normal<double>({rows, cols}), w = random_normal<double>({cols}, 2), b = random_normal<double>({cols}, 3),
                         dy = with_gaps(random_normal<double>({rows, cols}, 4)), y({rows, cols}), inv_rms({rows}), statistics({rows, 2});
    const Tensor<double> dx = with_gaps(poisoned<double>({rows, cols})), dw = poisoned<double>({cols}), db = poisoned<double>({cols});
    {
      const auto f = [&] {
        ops::rms_norm_forward<double>(y, inv_rms.data(), x, w.data(), eps, 1);
        return dot(y, dy);
      };
      const Array want_x = differences(x, f), want_w = differences(w, f);
      f();
      ops::rms_norm_backward<double>({dx, false}, {dw, false}, dy, x, w.data(), inv_rms.data(), 1);
      CHECK_THAT(array(dx), IsNear(want_x, 1e-6));
      CHECK_THAT(array(dw), IsNear(want_w, 1e-6));
      ops::rms_norm_backward<double>({dx, true}, {dw, true}, dy, x, w.data(), inv_rms.data(), 1);
      CHECK_THAT(array(dx), IsNear(2 * want_x, 1e-6));
      CHECK_THAT(array(dw), IsNear(2 * want_w, 1e-6));
    }
    const auto f = [&] {
      ops::layer_norm_forward<double>(y, statistics, x, w.data(), b.data(), eps);
      return dot(y, dy);
    };
    const Array want_x = differences(x, f), want_w = differences(w, f), want_b = differences(b, f);
    f();
    dx.fill(NAN), dw.fill(NAN);
    ops::layer_norm_backward<double>({dx, false}, {dw, false}, {db, false}, dy, x, w.data(), statistics);
    CHECK_THAT(array(dx), IsNear(want_x, 1e-6));
    CHECK_THAT(array(dw), IsNear(want_w, 1e-6));
    CHECK_THAT(array(db), IsNear(want_b, 1e-6));
    ops::layer_norm_backward<double>({}, {}, {db, true}, dy, x, w.data(), statistics);  // each sink by itself
    ops::layer_norm_backward<double>({}, {dw, true}, {}, dy, x, w.data(), statistics);
    ops::layer_norm_backward<double>({dx, true}, {}, {}, dy, x, w.data(), statistics);
    CHECK_THAT(array(dx), IsNear(2 * want_x, 1e-6));
    CHECK_THAT(array(dw), IsNear(2 * want_w, 1e-6));
    CHECK_THAT(array(db), IsNear(2 * want_b, 1e-6));
  }
}

TEMPLATE_TEST_CASE("norms give the same bits on any number of threads and whatever rows are around", "[ops]", float, double) {
  using T = TestType;
  const std::int64_t rows = 301, cols = 83;
  const Tensor<T> x = random_normal<T>({rows, cols}), dy = random_normal<T>({rows, cols}, 2), w = random_normal<T>({cols}, 3);
  struct Result {
    Tensor<T> y, statistics, dx, dw, db;
  };
  const auto run = [&](int threads, std::int64_t begin, std::int64_t end) {
    const Threads guard(threads);
    const std::int64_t n = end - begin;
    Result r{Tensor<T>({n, cols}), Tensor<T>({n, 2}), Tensor<T>({n, cols}), Tensor<T>({cols}), Tensor<T>({cols})};
    ops::layer_norm_forward<T>(r.y, r.statistics, x.view().row_range(begin, end), w.data(), nullptr, T(eps));
    ops::layer_norm_backward<T>({r.dx, false}, {r.dw, false}, {r.db, false}, dy.view().row_range(begin, end), x.view().row_range(begin, end), w.data(),
                                r.statistics);
    return r;
  };
  const Result one = run(1, 0, rows), two = run(2, 0, rows), three = run(3, 0, rows), part = run(2, 90, 91);
  for (const Result* r : {&two, &three}) {
    CHECK(same_bits(r->y, one.y));
    CHECK(same_bits(r->dx, one.dx));
    CHECK(same_bits(r->dw, one.dw));
    CHECK(same_bits(r->db, one.db));
  }
  CHECK(same_bits(part.y, one.y.row_range(90, 91)));
  CHECK(same_bits(part.dx, one.dx.row_range(90, 91)));
}

TEST_CASE("shapes of norms must fit", "[ops]") {
  const Tensor<float> x({3, 4}), y({3, 5}), w({4}), inv({3});
  CHECK_THROWS_AS(ops::rms_norm_forward<float>(y, inv.data(), x, w.data(), 1e-5f), ShapeError);
}
