// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "peft/adapters/target_modules.hpp"
#include "peft/core/error.hpp"
#include "peft/nn/transformer.hpp"

namespace peft {

namespace detail {
/// Adds to modules_to_save what PEFT adds for a head of this task, and those modules of the head that were drawn and are below none of these.
void save_head(std::vector<std::string>& modules_to_save, const HeadConfig& head);
/// "SEQ_CLS"; "" for tasks whose heads PEFT does not train along.
std::string task_type_of_head(TaskType task);
}  // namespace detail

/// The config of an adapter for a model with a head of its own (that classifies, or answers questions): task_type is the model's, and the head trains
/// as a whole and is saved along, as in PEFT. Other models change nothing. Throws NotSupported for a method that saves no modules.
///
///     tuned.add_adapter("a", with_head(LoraConfig{.r = 8}, model));
template <class Config, Scalar T>
Config with_head(Config config, const Transformer<T>& model) {
  const std::string task_type = detail::task_type_of_head(model.config.head.task);
  if (task_type.empty()) return config;
  if constexpr (requires { config.modules_to_save; }) {
    config.task_type = task_type;
    detail::save_head(config.modules_to_save, model.config.head);
    return config;
  } else {
    throw NotSupported("with_head", std::string("the method ") + Config::peft_type + " with a head that trains: it has no modules_to_save");
  }
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/adapters/impl/head.inl"
#endif
