// SPDX-License-Identifier: Apache-2.0
// A user's program: LoRA on a model of his own, without any file or tokenizer. Ends with 0 if all is as it should be.
#include <peft/lora.hpp>

struct Perceptron {
  peft::Linear<float> up, down;
  explicit Perceptron(peft::Random& random) : up(6, 16, random), down(16, 2, random) {}
  peft::Variable<float> operator()(const peft::Variable<float>& x) const { return down(up(x)); }
  static void describe(auto& self, auto&& visit) {
    visit("up", self.up);
    visit("down", self.down);
  }
};

int main() {
  peft::Random random(7);
  Perceptron base(random);
  peft::PeftModel tuned{base};
  tuned.add_adapter("mine", peft::LoraConfig{.r = 4, .lora_alpha = 8, .target_modules = {"up", "down"}});
  if (tuned.count_parameters().trainable != 4 * (6 + 16) + 4 * (16 + 2)) return 1;

  peft::Tensor<float> x({3, 6});
  x.fill(0.5f);
  const peft::Variable<float> plain = base(peft::Variable<float>(x)), adapted = tuned.model()(peft::Variable<float>(x));
  for (std::int64_t i = 0; i < 6; i++)
    if (plain.value()[i] != adapted.value()[i]) return 2;  // B begins at zero: a fresh adapter changes nothing
  return 0;
}
