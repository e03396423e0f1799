// SPDX-License-Identifier: Apache-2.0
// The program of the README: a model learns what is in a file, is saved as PEFT saves it, and answers.
//     tune_model [MODEL] [DATA] [OUT]
#include <peft/peft.hpp>

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "SmolLM2-135M-Instruct.Q4_1.gguf";  // or a Hugging Face directory
  auto model = peft::load_model<float>(path);
  auto tokenizer = peft::load_tokenizer(path);
  peft::PeftModel tuned{model};
  tuned.add_adapter("desk", peft::LoraConfig{.r = 8, .lora_alpha = 16, .target_modules = {"q_proj", "v_proj"}});
  auto data = peft::load_dataset(argc > 2 ? argv[2] : "tickets.jsonl", tokenizer, {.max_length = 512});
  peft::Trainer{tuned, {.num_epochs = 3, .learning_rate = 2e-4, .batch_size = 8}}.fit(data);
  peft::save_adapter(tuned, "desk", argc > 3 ? argv[3] : "out/");  // Hugging Face PEFT loads this directory
  fmt::print("{}\n", peft::generate(tuned, tokenizer, "My printer is on fire.", {.max_tokens = 64, .temperature = 0.7}));
}
