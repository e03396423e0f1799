// SPDX-License-Identifier: Apache-2.0
// expect: an adapter needs describe, and one of: operator()(base, x, y), operator()(base, x, next), stand_in(base)
#include "peft/nn/linear.hpp"

struct Doubling {
#ifdef VALID
  peft::Variable<float> operator()(const peft::Linear<float>&, const peft::Variable<float>&, peft::Variable<float> y) const { return y; }
#else
  peft::Variable<float> operator()(const peft::Variable<float>& x) const { return x; }
#endif
  static void describe(auto&, auto&&) {}
};

int main() {
  peft::Linear<float> linear;
  linear.adapters.attach(1, Doubling{});
}
