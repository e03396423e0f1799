// SPDX-License-Identifier: Apache-2.0
// expect: keep the model in a variable of its own
#include "peft/lora.hpp"

struct Model {
  peft::Linear<float> map;
  static void describe(auto& self, auto&& visit) { visit("map", self.map); }
};

int main() {
#ifdef VALID
  Model model;
  peft::PeftModel<Model> tuned{model};
#else
  peft::PeftModel<Model> tuned{Model{}};
#endif
  return int(tuned.adapter_names().size());
}
