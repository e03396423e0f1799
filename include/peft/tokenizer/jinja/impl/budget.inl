// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <limits>
#include <string>

#include "peft/core/error.hpp"

namespace peft::jinja::detail {

inline ConfigError error(const std::string& what) { return ConfigError("chat_template", what); }

/// What one run of a template may still cost: about the bytes that it reads and writes, a step of the program counting as some. Templates come with models,
/// from anybody: loops within loops and texts that double themselves end here. One for each thread, while it lives.
class Budget {
 public:
  explicit Budget(std::size_t units) : outer_(left()) { left() = units; }
  ~Budget() { left() = outer_; }
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  static void charge(std::size_t units) {
    std::size_t& all = left();
    if (units > all) throw error("the template works and works: it was stopped after far more steps, or longer texts, than any conversation needs");
    all -= units;
  }

 private:
  static std::size_t& left() {
    static thread_local std::size_t units = std::numeric_limits<std::size_t>::max();
    return units;
  }
  std::size_t outer_;
};

/// In these units: a step of the program, an item of a list (which is a Value).
inline constexpr std::size_t step_cost = 16, item_cost = 128;
/// Values within values, and parts of a program that run within each other: as deep as the stack allows many times over.
inline constexpr int deepest_value = 100, deepest_run = 600;

}  // namespace peft::jinja::detail
