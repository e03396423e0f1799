// SPDX-License-Identifier: Apache-2.0
// No adapter: the upper layer alone, with the frozen layer below it computed once for each row; then the biases and norms; then everything.
//
//     build/bin/freeze_layers [--model DIR]
#include "village.hpp"

int main(int argc, char** argv) {
  return village::run([&] {
    const auto teach = [&](const char* title, const auto& policy, double learning_rate, bool cache) {
      auto place = village::Place::open(argc, argv);  // training writes to the weights: each way begins with the model's own
      peft::freeze(place.model, policy);
      peft::Trainer{place.model, {.num_epochs = 40, .learning_rate = learning_rate, .batch_size = 8, .cache_frozen = cache}}.fit(place.data("moved"));
      fmt::print("{:<12} {:>7}  {}\n", title, peft::count_parameters(place.model).trainable, place.ask(place.model, village::question));
    };
    teach("last layer", peft::Matching{fmt::format("layers.{}.*", village::Place::open(argc, argv).model.config.num_hidden_layers - 1)}, 3e-3, true);
    teach("everything", peft::Everything{}, 2e-3, false);
  });
}
