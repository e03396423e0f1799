// SPDX-License-Identifier: Apache-2.0
// A program of a user: LoRA on a map of his own.
#include <peft/peft.hpp>

int main() {
  peft::Random random(7);
  peft::Linear<float> map(8, 4, random);
  peft::Tensor<float> x({3, 8});
  x.fill(1);
  const auto y = map(peft::Variable<float>(x));
  return y.shape() == peft::Shape({3, 4}) ? 0 : 1;
}
