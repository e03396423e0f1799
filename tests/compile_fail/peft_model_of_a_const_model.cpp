// SPDX-License-Identifier: Apache-2.0
// expect: PeftModel wants a model that is not const
#include "peft/lora.hpp"

struct Model {
  peft::Linear<float> map{};
  static void describe(auto& self, auto&& visit) { visit("map", self.map); }
};

int main() {
#ifdef VALID
  Model model;
#else
  const Model model;
#endif
  peft::PeftModel tuned{model};
  return int(tuned.adapter_names().size());
}
