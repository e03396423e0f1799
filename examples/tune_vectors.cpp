// SPDX-License-Identifier: Apache-2.0
// The smallest changes: a factor for each key, value and inner feature (IA3), the norms' weights alone (LN tuning). They teach a manner, here
// to answer in one word, with a few hundred numbers.
//
//     build/bin/tune_vectors [--model DIR]
#include "village.hpp"

int main(int argc, char** argv) {
  return village::run([&] {
    auto place = village::Place::open(argc, argv);
    const peft::Dataset brief = place.data("short");
    fmt::print("before        {}\n", place.ask(place.model, village::question));
    const auto teach = [&](const char* title, const auto& config) {
      place.teach(config, brief, 2e-2,
                  [&](auto& tuned) { fmt::print("{:<10}{:>4}  {}\n", title, tuned.count_parameters().trainable, place.ask(tuned, village::question)); });
    };
    teach("IA3", peft::IA3Config{});
    teach("LN tuning", peft::LNTuningConfig{});
  });
}
