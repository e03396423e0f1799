// SPDX-License-Identifier: Apache-2.0
// The program of the README, to the letter: a test compares them, and runs this one. It looks for its files where it is started.
#include <peft/peft.hpp>
int main() {
  auto model = peft::load_model<float>("SmolLM2-135M-Instruct.Q4_1.gguf");  // or a Hugging Face directory
  auto tokenizer = peft::load_tokenizer("SmolLM2-135M-Instruct.Q4_1.gguf");
  peft::PeftModel tuned{model};
  tuned.add_adapter("desk", peft::LoraConfig{.r = 8, .lora_alpha = 16, .target_modules = {"q_proj", "v_proj"}});
  auto data = peft::load_dataset("tickets.jsonl", tokenizer, {.max_length = 512});
  peft::Trainer{tuned, {.num_epochs = 3, .learning_rate = 2e-4, .batch_size = 8}}.fit(data);
  peft::save_adapter(tuned, "desk", "out/");  // Hugging Face PEFT loads this directory
  fmt::print("{}\n", peft::generate(tuned, tokenizer, "My printer is on fire.", {.max_tokens = 64, .temperature = 0.7}));
}
