// SPDX-License-Identifier: Apache-2.0
// Other ways to change weights by few numbers: rotations (OFT, HRA), Kronecker and Hadamard products (LoKr, LoHa), frozen random bases (VeRA), a
// spectrum (FourierFT). All of them merge, as LoRA does.
//
//     build/bin/tune_weights [--model DIR]
#include "village.hpp"

int main(int argc, char** argv) {
  return village::run([&] {
    auto place = village::Place::open(argc, argv);
    const peft::Dataset brief = place.data("short");
    fmt::print("before           {}\n", place.ask(place.model, village::question));
    const auto teach = [&](const char* title, const auto& config, double learning_rate) {
      place.teach(config, brief, learning_rate, [&](auto& tuned) {
        tuned.merge_adapter();
        fmt::print("{:<9} {:>6} {}\n", title, tuned.count_parameters().trainable, place.ask(tuned, village::question));
      });
    };
    teach("OFT", peft::OFTConfig{.oft_block_size = 16}, 1e-2);
    teach("HRA", peft::HRAConfig{.r = 4}, 2e-2);
    teach("LoKr", peft::LoKrConfig{.r = 4, .alpha = 8}, 1e-2);
    teach("LoHa", peft::LoHaConfig{.r = 4, .alpha = 8}, 1e-2);
    teach("VeRA", peft::VeraConfig{.r = 64}, 5e-2);
    teach("FourierFT", peft::FourierFTConfig{.n_frequency = 200}, 5e-2);
  });
}
