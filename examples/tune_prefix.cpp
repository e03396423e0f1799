// SPDX-License-Identifier: Apache-2.0
// Prefix tuning, which P-Tuning v2 is on a language model: keys and values in front of every layer's own, from a table or through a small network.
// No weight is touched; a prefix is a piece of a cache.
//
//     build/bin/tune_prefix [--model DIR]
#include "village.hpp"

int main(int argc, char** argv) {
  return village::run([&] {
    auto place = village::Place::open(argc, argv);
    const peft::Dataset brief = place.data("short");
    fmt::print("before      {}\n", place.ask(place.model, village::question));
    for (const bool projection : {false, true}) {
      peft::PeftModel tuned{place.model};
      peft::PrefixTuningConfig config{.num_virtual_tokens = 16, .prefix_projection = projection};
      if (!projection) config.init_weights = "zero";  // a table of random rows begins far from what the model says
      tuned.add_adapter("short", config);
      const auto trained = tuned.count_parameters().trainable;
      peft::Trainer{tuned, {.num_epochs = 120, .learning_rate = 1e-2, .batch_size = 8}}.fit(brief);
      fmt::print("{} {:>5}  {}\n", projection ? "network" : "table  ", trained, place.ask(tuned, village::question));
      tuned.delete_adapter("short");
    }
  });
}
