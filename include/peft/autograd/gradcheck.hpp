// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "peft/autograd/parameter.hpp"
#include "peft/autograd/tape.hpp"

namespace peft {

struct GradcheckOptions {
  double step = 1e-5;       // of the central differences
  double tolerance = 1e-6;  // relative to the largest entry of each input's gradient (at least 1e-3)
  std::uint64_t seed = 7;   // of the random direction that turns the output into a scalar
};

struct GradcheckResult {
  bool ok = true;
  double worst = 0;   // largest relative difference
  std::string where;  // which input and entry
  explicit operator bool() const { return ok; }
};

/// Compares the gradients that f records with central differences, in double: of every entry of every input variable, and of every
/// parameter given. f takes the variables and returns one; its output is weighted by fixed random numbers.
template <class F>
GradcheckResult gradcheck(F f, std::vector<Tensor<double>> inputs, const std::vector<Parameter<double>>& parameters = {},
                          const GradcheckOptions& options = {}) {
  const auto call = [&](const std::vector<Variable<double>>& variables) { return f(variables); };
  const auto weigh = [&](const Tensor<double>& y) {
    Random random(options.seed);
    double sum = 0;
    for (std::int64_t i = 0; i < y.rows(); i++)
      for (std::int64_t j = 0; j < y.cols(); j++) sum += y(i, j) * random.normal();
    return sum;
  };
  std::vector<Tensor<double>> analytic;
  {
    Tape tape;
    std::vector<Variable<double>> variables;
    for (const auto& input : inputs) variables.emplace_back(input.clone(), true);
    for (const auto& parameter : parameters) parameter.zero_grad();
    const Variable<double> y = call(variables);
    Tensor<double> seed(y.shape());
    Random random(options.seed);
    for (double& value : seed.span()) value = random.normal();
    tape.backward(y, seed);
    for (const auto& v : variables) analytic.push_back(v.grad());
    for (const auto& parameter : parameters) analytic.push_back(parameter.gradient().take());
  }
  GradcheckResult result;
  const auto compare = [&](std::size_t number, const Tensor<double>& values, const auto& evaluate) {
    std::vector<double> numeric;
    double largest = 1e-3;
    for (std::int64_t i = 0; i < values.size(); i++) {
      const double kept = values[i];
      values[i] = kept + options.step;
      const double up = evaluate();
      values[i] = kept - options.step;
      const double down = evaluate();
      values[i] = kept;
      numeric.push_back((up - down) / (2 * options.step));
      largest = std::max(largest, std::abs(numeric.back()));
    }
    for (std::int64_t i = 0; i < values.size(); i++) {
      const double found = analytic[number] ? analytic[number][i] : 0;
      const double off = std::abs(found - numeric[std::size_t(i)]) / largest;
      if (!(off <= result.worst))
        result.worst = off, result.where = "input " + std::to_string(number) + " entry " + std::to_string(i) + ": recorded " + std::to_string(found) +
                                           ", differences " + std::to_string(numeric[std::size_t(i)]);
    }
  };
  const auto evaluate = [&] {
    NoGrad guard;
    for (const auto& parameter : parameters) parameter.touch();  // what was derived from them is out of date
    std::vector<Variable<double>> variables;
    for (const auto& input : inputs) variables.emplace_back(input.clone());
    return weigh(call(variables).value());
  };
  for (std::size_t i = 0; i < inputs.size(); i++) compare(i, inputs[i], evaluate);
  for (std::size_t i = 0; i < parameters.size(); i++) compare(inputs.size() + i, parameters[i].value(), evaluate);
  for (const auto& parameter : parameters) parameter.touch();  // they have their values again
  result.ok = result.worst <= options.tolerance;
  return result;
}

}  // namespace peft
