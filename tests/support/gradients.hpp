// SPDX-License-Identifier: Apache-2.0
// Gradient checks that say where they fail, and short names for what tests make often.
#pragma once

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "peft/autograd/gradcheck.hpp"
#include "support/tensors.hpp"

template <>
struct Catch::StringMaker<peft::GradcheckResult> {
  static std::string convert(const peft::GradcheckResult& result) { return "worst difference " + std::to_string(result.worst) + " at " + result.where; }
};

namespace peft::testing {

using Variables = std::vector<Variable<double>>;

inline Tensor<double> normal(const Shape& shape, std::uint64_t seed = 1) { return random_normal<double>(shape, seed); }
inline Parameter<double> trained(const Shape& shape, std::uint64_t seed) { return Parameter<double>(normal(shape, seed), true); }
inline Parameter<double> frozen(const Shape& shape, std::uint64_t seed) { return Parameter<double>(normal(shape, seed)); }

template <class F>
void check_function(const F& f, const std::vector<Tensor<double>>& inputs) {
  CHECK(gradcheck(f, inputs));
}

}  // namespace peft::testing
