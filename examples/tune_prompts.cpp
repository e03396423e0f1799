// SPDX-License-Identifier: Apache-2.0
// Soft prompts: rows in front of the embedded question, trained while every weight stays. From the tokens of a text (prompt tuning), or as the
// output of a small network (P-Tuning).
//
//     build/bin/tune_prompts [--model DIR]
#include "village.hpp"

int main(int argc, char** argv) {
  return village::run([&] {
    auto place = village::Place::open(argc, argv);
    const peft::Dataset brief = place.data("short");
    fmt::print("before         {}\n", place.ask(place.model, village::question));
    const auto teach = [&](const char* title, const auto& config, double learning_rate) {
      place.teach(config, brief, learning_rate, [&](const auto& tuned) { fmt::print("{:<14} {}\n", title, place.ask(tuned, village::question)); });
    };
    std::vector<std::int64_t> text;
    for (std::int32_t id : place.tokenizer.encode("Briefly: ")) text.push_back(id);
    const auto length = std::int64_t(text.size());
    teach("prompt tuning", peft::PromptTuningConfig{.num_virtual_tokens = length, .prompt_tuning_init = "TEXT", .init_ids = text}, 3e-2);
    teach("P-Tuning", peft::PromptEncoderConfig{.num_virtual_tokens = 8}, 5e-3);
  });
}
