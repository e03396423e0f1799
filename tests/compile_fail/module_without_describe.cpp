// SPDX-License-Identifier: Apache-2.0
// expect: a module needs: static void describe(auto& self, auto&& visit)
#include "peft/nn/module.hpp"

struct Gate {
  peft::Parameter<float> weight;
#ifdef VALID
  static void describe(auto& self, auto&& visit) { visit("weight", self.weight); }
#endif
};

int main() {
  Gate gate;
  peft::for_each_parameter(gate, [](const std::string&, auto&) {});
}
