// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <catch2/catch.hpp>
#include <cmath>
#include <sstream>
#include <string>
#include <type_traits>

#include "support/tensors.hpp"

// Failures name the worst element, not all of them.
template <>
struct Catch::StringMaker<peft::testing::Array> {
  static std::string convert(const peft::testing::Array& a) {
    std::string text = "an array (";
    for (std::size_t size : a.shape()) text += (text.back() == '(' ? "" : ", ") + std::to_string(size);
    return text + ")";
  }
};

namespace peft::testing {

template <class T>
inline constexpr double rounding = std::is_same_v<T, float> ? 2e-6 : 1e-14;

/// Every element within tolerance · (largest magnitude that is expected, at least `scale`). NaN is near nothing; infinities are near themselves.
class IsNear : public Catch::MatcherBase<Array> {
 public:
  IsNear(Array expected, double tolerance, double scale = 0) : expected_(std::move(expected)), tolerance_(tolerance), scale_(scale) {}
  bool match(const Array& found) const override {
    if (found.shape() != expected_.shape()) return text_ = "has another shape", false;
    double largest = scale_;
    for (double e : expected_)
      if (std::isfinite(e)) largest = std::max(largest, std::abs(e));
    double worst = 0;
    std::size_t where = 0;
    for (std::size_t i = 0; i < expected_.size(); i++) {
      const double e = expected_.flat(i), f = found.flat(i);
      const double off = e == f ? 0 : std::isfinite(f) ? std::abs(f - e) / largest : INFINITY;
      if (!(off <= worst)) worst = off, where = i;
    }
    if (worst <= tolerance_) return true;
    std::ostringstream text;
    text << "is not near: element " << where << " of " << expected_.size() << " is " << found.flat(where) << " instead of " << expected_.flat(where) << ", "
         << worst << " of the largest, allowed " << tolerance_;
    text_ = text.str();
    return false;
  }
  std::string describe() const override { return text_; }

 private:
  Array expected_;
  double tolerance_, scale_;
  mutable std::string text_;
};

template <class T>
IsNear is_near(const Array& expected, double factor = 1, double scale = 0) {
  return IsNear(expected, rounding<T> * factor, scale);
}

/// ∂f/∂x by central differences; f reads x and returns a number.
template <class F>
Array differences(const Tensor<double>& x, const F& f, double step = 1e-5) {
  Array slope = array(x);
  for (std::int64_t i = 0; i < x.size(); i++) {
    double& value = x.data()[i / x.cols() * x.stride() + i % x.cols()];
    const double kept = value;
    value = kept + step;
    const double up = f();
    value = kept - step;
    const double down = f();
    value = kept;
    slope.flat(std::size_t(i)) = (up - down) / (2 * step);
  }
  return slope;
}
/// Σ a ∘ b: a scalar whose gradient in a is b.
inline double dot(const Tensor<double>& a, const Tensor<double>& b) {
  double total = 0;
  for (std::int64_t i = 0; i < a.rows(); i++)
    for (std::int64_t j = 0; j < a.cols(); j++) total += a(i, j) * b(i, j);
  return total;
}

}  // namespace peft::testing
