// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/activation.hpp"

#include <catch2/catch.hpp>
#include <vector>
#include <xtensor/xmath.hpp>
#include <xtensor/xvectorize.hpp>

#include "support/is_near.hpp"
#include "support/threads.hpp"

using namespace peft;
using namespace peft::testing;
using ops::Activation;

namespace {

constexpr double pi = 3.14159265358979323846;
const std::vector<Activation> all = {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu, Activation::tanh};

Array formula(Activation f, const Array& x) {
  switch (f) {
    case Activation::silu:
      return x / (1 + xt::exp(-x));
    case Activation::gelu:
      return 0.5 * x * xt::vectorize([](double z) { return std::erfc(-z / std::sqrt(2.0)); })(x);
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + xt::tanh(std::sqrt(2 / pi) * (x + 0.044715 * x * x * x)));
    case Activation::relu:
      return xt::maximum(x, 0.0);
    case Activation::tanh:
      return xt::tanh(x);
  }
  return x;
}

// From far below to far above, dense around 0.
template <class T>
Tensor<T> everywhere() {
  Tensor<T> x({40, 37});
  for (std::int64_t i = 0; i < x.size(); i++) {
    const double u = double(i) / double(x.size() - 1) * 2 - 1;
    x[i] = T(u * u * u * 30);
  }
  return x;
}

}  // namespace

TEMPLATE_TEST_CASE("activations follow their formulas from -30 to 30", "[ops]", float, double) {
  using T = TestType;
  const Tensor<T> x = everywhere<T>();
  for (Activation f : all) {
    CAPTURE(int(f));
    const Tensor<T> y = poisoned<T>(x.shape());
    ops::activation_forward<T>(y, x, f);
    const Array want = formula(f, array(x));
    // Element by element: what is small must be right too.
    double worst = 0;
    for (std::int64_t i = 0; i < x.size(); i++) {
      const double e = want.flat(std::size_t(i)), size = std::max(std::abs(e), f == Activation::gelu_tanh ? std::abs(double(x[i])) * 0.1 : 1e-30);
      worst = std::max(worst, std::abs(double(y[i]) - e) / size);
    }
    // Φ(x) for x far below 0 is as exact as e^(−x²/2) is: its argument's rounding grows with x².
    const bool tail = f == Activation::gelu;
    if (tail) {
      CHECK_THAT(array(y), is_near<T>(want));
    } else {
      CHECK(worst < (sizeof(T) == 4 ? 1e-6 : 4e-15));
    }
  }
}

TEMPLATE_TEST_CASE("activations keep limits and NaN", "[ops]", float, double) {
  using T = TestType;
  const T huge = T(3e4), nan = std::numeric_limits<T>::quiet_NaN();
  const Tensor<T> x({1, 5}, std::vector<T>{-huge, huge, nan, T(0), T(-0.0)}), y({1, 5}), dx({1, 5}), dy({1, 5}, T(1));
  for (Activation f : all) {
    CAPTURE(int(f));
    ops::activation_forward<T>(y, x, f);
    ops::activation_backward<T>({dx, false}, dy, x, f);
    CHECK(y[0] == (f == Activation::tanh ? T(-1) : T(0)));
    CHECK(y[1] == (f == Activation::tanh ? T(1) : huge));
    CHECK(std::isnan(y[2]));
    CHECK(y[3] == T(0));
    CHECK(dx[0] == T(0));
    CHECK(dx[1] == (f == Activation::tanh ? T(0) : T(1)));
  }
}

TEST_CASE("the activations' gradients are the slopes", "[ops][gradcheck]") {
  const Tensor<double> x = random_normal<double>({4, 19}, 5, 2), up = random_normal<double>({4, 19}, 6), dy = random_normal<double>({4, 19}, 7), y({4, 19});
  for (Activation f : all) {
    CAPTURE(int(f));
    const auto plain = [&] {
      ops::activation_forward<double>(y, x, f);
      return dot(y, dy);
    };
    const Array want = differences(x, plain);
    const Tensor<double> dx = with_gaps(poisoned<double>({4, 19}));
    ops::activation_backward<double>({dx, false}, dy, x, f);
    CHECK_THAT(array(dx), IsNear(want, 1e-6));
    ops::activation_backward<double>({dx, true}, dy, x, f);
    CHECK_THAT(array(dx), IsNear(2 * want, 1e-6));

    const auto gated = [&] {
      ops::gated_forward<double>(y, x, up, f);
      return dot(y, dy);
    };
    const Array want_gate = differences(x, gated), want_up = differences(up, gated);
    const Tensor<double> dgate = poisoned<double>({4, 19}), dup = with_gaps(poisoned<double>({4, 19}));
    ops::gated_backward<double>({dgate, false}, {}, dy, x, up, f);
    ops::gated_backward<double>({}, {dup, false}, dy, x, up, f);
    CHECK_THAT(array(dgate), IsNear(want_gate, 1e-6));
    CHECK_THAT(array(dup), IsNear(want_up, 1e-6));
    ops::gated_backward<double>({dgate, true}, {dup, true}, dy, x, up, f);
    CHECK_THAT(array(dgate), IsNear(2 * want_gate, 1e-6));
    CHECK_THAT(array(dup), IsNear(2 * want_up, 1e-6));
  }
}

TEMPLATE_TEST_CASE("a gate multiplies, and results may take the place of inputs", "[ops]", float, double) {
  using T = TestType;
  const Tensor<T> gate = random_normal<T>({7, 45}), up = random_normal<T>({7, 45}, 2), dy = random_normal<T>({7, 45}, 3);
  for (Activation f : all) {
    CAPTURE(int(f));
    const Tensor<T> y = poisoned<T>({7, 45}), dgate = poisoned<T>({7, 45}), dup = poisoned<T>({7, 45});
    ops::gated_forward<T>(y, with_gaps(gate), up, f);
    const Array want = formula(f, array(gate)) * array(up);
    CHECK_THAT(array(y), is_near<T>(want));
    const Tensor<T> in_gate = gate.clone(), in_up = up.clone(), in_dy = dy.clone();
    ops::gated_forward<T>(in_gate, in_gate, up, f);
    ops::gated_forward<T>(in_up, gate, in_up, f);
    CHECK(same_bits(in_gate, y));
    CHECK(same_bits(in_up, y));

    ops::gated_backward<T>({dgate, false}, {dup, false}, dy, gate, up, f);
    const Tensor<T> gate2 = gate.clone(), up2 = up.clone();
    ops::gated_backward<T>({gate2, false}, {up2, false}, dy, gate2, up2, f);
    CHECK(same_bits(gate2, dgate));
    CHECK(same_bits(up2, dup));
    ops::gated_backward<T>({in_dy, false}, {}, in_dy, gate, up, f);
    CHECK(same_bits(in_dy, dgate));
  }
}

TEST_CASE("an element's bits do not depend on where it stands", "[ops]") {
  const Tensor<float> x = random_normal<float>({61, 67}), y({61, 67}), once({1, 1});
  const Threads two(2);
  for (Activation f : all) {
    CAPTURE(int(f));
    ops::activation_forward<float>(y, x, f);
    for (std::int64_t i : {0, 1, 66, 67, 2000, 61 * 67 - 1}) {
      ops::activation_forward<float>(once, View<const float>(x.data() + i, 1, 1), f);
      CHECK(once[0] == y[i]);
    }
    const Tensor<float> gaps = with_gaps(poisoned<float>({61, 67}));
    ops::activation_forward<float>(gaps, with_gaps(x), f);
    CHECK(same_bits(gaps, y));
  }
}
