// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/core/parallel.hpp"

namespace peft::testing {

/// So many threads for as long as it lives.
class Threads {
 public:
  explicit Threads(int n) : previous_(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(previous_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int previous_;
};

}  // namespace peft::testing
