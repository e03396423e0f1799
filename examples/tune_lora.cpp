// SPDX-License-Identifier: Apache-2.0
// LoRA and its relatives: everybody moves house, and a low-rank change of the weights learns where to. Trained, saved, loaded, merged.
//
//     build/bin/tune_lora [--model DIR]
#include <filesystem>

#include "village.hpp"

int main(int argc, char** argv) {
  return village::run([&] {
    auto place = village::Place::open(argc, argv);
    const peft::Dataset moved = place.data("moved");
    fmt::print("before   {}\n", place.ask(place.model, village::question));

    peft::PeftModel tuned{place.model};
    tuned.add_adapter("moved", peft::LoraConfig{.r = 8, .lora_alpha = 16, .target_modules = "all-linear"});
    fmt::print("training {}\n", tuned.count_parameters().trainable);
    peft::Trainer{tuned, {.num_epochs = 60, .learning_rate = 5e-3, .batch_size = 8}}.fit(moved);
    fmt::print("after    {}\n", place.ask(tuned, village::question));

    // The file is PEFT's: it loads here, there, and beside other adapters.
    const std::string directory = (std::filesystem::temp_directory_path() / "village-moved").string();
    peft::save_adapter(tuned, "moved", directory);
    tuned.delete_adapter("moved");
    fmt::print("without  {}\n", place.ask(tuned, village::question));
    peft::load_adapter(tuned, "again", directory);
    fmt::print("loaded   {}\n", place.ask(tuned, village::question));
    const auto merged = tuned.merge_and_unload();  // a model of its own, as fast as the base
    fmt::print("merged   {}\n", place.ask(merged, village::question));
  });
}
