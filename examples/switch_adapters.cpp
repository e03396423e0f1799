// SPDX-License-Identifier: Apache-2.0
// Two adapters of two methods on one model: each alone, both at once, and one batch in which every question has its own.
//
//     build/bin/switch_adapters [--model DIR]
#include "village.hpp"

int main(int argc, char** argv) {
  return village::run([&] {
    auto place = village::Place::open(argc, argv);
    peft::PeftModel tuned{place.model};
    const auto teach = [&](const std::string& name, const auto& config, const char* data, double learning_rate) {
      tuned.add_adapter(name, config);
      tuned.set_adapter({name});
      peft::freeze(tuned, [&](const peft::ParameterInfo& info) { return info.adapter == name; });  // the one before stays as it is
      peft::Trainer{tuned, {.num_epochs = 60, .learning_rate = learning_rate, .batch_size = 8}}.fit(place.data(data));
    };
    teach("moved", peft::LoraConfig{.r = 8, .lora_alpha = 16, .target_modules = "all-linear"}, "moved", 5e-3);
    teach("short", peft::PrefixTuningConfig{.num_virtual_tokens = 8, .prefix_projection = true}, "short", 1e-2);

    tuned.set_adapter({"moved"});
    fmt::print("moved           {}\n", place.ask(tuned, village::question));
    tuned.set_adapter({"short"});
    fmt::print("short           {}\n", place.ask(tuned, village::question));
    const std::vector<std::string> questions(3, village::question);
    const auto answers = peft::complete_all_with(tuned, place.tokenizer, questions, {{}, {"moved"}, {"short"}}, {.max_tokens = 48});
    fmt::print("in one batch    {} | {} | {}\n", answers[0].text, answers[1].text, answers[2].text);
  });
}
