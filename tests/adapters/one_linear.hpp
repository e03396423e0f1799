// SPDX-License-Identifier: Apache-2.0
// A model of one Linear with a bias, on which a method's formula is checked against xtensor, its gradients against differences, its merge against
// its forward.
#pragma once

#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <xtensor/xbuilder.hpp>
#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>

#include "peft/adapters/peft_model.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"

namespace peft::testing {

struct OneLinear {
  using Scalar_ = double;
  Linear<double> map;
  explicit OneLinear(std::int64_t in = 12, std::int64_t out = 8)
      : map(Parameter<double>(random_normal<double>({out, in}, 11, 0.5)), Parameter<double>(random_normal<double>({out}, 12)), "layers.0.map") {}
  static void describe(auto& self, auto&& visit) { visit("map", self.map); }
};

/// The product of two matrices.
inline Array times(const Array& left, const Array& right) {
  return xt::sum(xt::view(left, xt::all(), xt::all(), xt::newaxis()) * xt::view(right, xt::newaxis(), xt::all(), xt::all()), {1});
}
inline Array transposed(const Array& a) { return Array(xt::transpose(a)); }
inline Array map_of(const Array& x, const Array& W, const Array& bias) { return times(x, transposed(W)) + bias; }
inline const TargetModules map_name = {"map"};

/// An adapter's tensors by the last part of their names: "lora_A.weight".
struct Tensors {
  std::map<std::string, Array> all;
  const Array& operator[](const std::string& name) const {
    INFO(name);
    REQUIRE(all.contains(name));
    return all.at(name);
  }
};

/// oracle(x, W, bias, tensors) is what the Linear gives with the adapter.
template <class Config, class Oracle>
void check_method(const Config& config, const Oracle& oracle, const OneLinear& base = OneLinear(), bool mergeable = true) {
  OneLinear model = base;
  PeftModel tuned{model};
  tuned.add_adapter("a", config, 3);
  Tensors tensors;
  std::vector<Parameter<double>> trained;
  tuned.for_each_adapter_parameter("a", [&](const std::string& path, Parameter<double>& parameter) {
    tensors.all[path.starts_with("layers.0.map.") ? path.substr(13) : path] = array(parameter.value());
    if (parameter.requires_grad()) trained.push_back(parameter);
  });
  REQUIRE(!trained.empty());
  const auto run = [&](const Variable<double>& x) {
    const Pass<double> pass = tuned.pass();
    const PassScope<double> scope(pass);
    return tuned.model().map(x);
  };
  const Variable<double> x(normal({5, base.map.in_features()}, 3));
  const Tensor<double> found = run(x).value();
  const Array W = array(base.map.weight.value()), bias = array(base.map.bias.value());
  CHECK_THAT(array(found), is_near<double>(oracle(array(x.value()), W, bias, tensors), 50));
  CHECK_FALSE(same_bits(found, base.map.forward(x).value()));  // or the formula was not put to the test
  CHECK(gradcheck([&](const Variables& v) { return run(v[0]); }, {x.value()}, trained));
  if (mergeable) {
    tuned.merge_adapter();
    CHECK_THAT(array(run(x).value()), is_near<double>(array(found), 50));
    tuned.unmerge_adapter();
    CHECK(same_bits(run(x).value(), found));
  }
  {
    const auto without = tuned.disable_adapters();
    CHECK(same_bits(run(x).value(), base.map.forward(x).value()));
  }
}

/// A fresh adapter of this config changes nothing, to `factor` roundings.
template <class Config>
void check_fresh(const Config& config, double factor = 50) {
  OneLinear base;
  PeftModel tuned{base};
  tuned.add_adapter("a", config, 3);
  const Variable<double> x(normal({5, base.map.in_features()}, 3));
  CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(array(base.map.forward(x).value()), factor));
}

}  // namespace peft::testing
