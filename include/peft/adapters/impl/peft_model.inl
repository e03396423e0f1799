// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/adapters/own_tensors.hpp"
#include "peft/adapters/peft_model.hpp"

namespace peft {

PEFT_INLINE void validate_adapter_name(std::string_view name) {
  const bool fine = !name.empty() && name != "." && name != ".." && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
  if (!fine) throw AdapterError("add_adapter", "\"" + std::string(name) + "\" is no name for an adapter; letters, digits, '_', '-' and '.' are allowed");
}

PEFT_INLINE std::vector<std::string> detail::last_names(const std::vector<std::string>& paths) {
  std::vector<std::string> names;
  for (const std::string& path : paths) {
    std::string last = path.substr(path.rfind('.') + 1);
    if (std::ranges::find(names, last) == names.end()) names.push_back(std::move(last));
  }
  return names;
}

PEFT_INLINE void detail::refuse_unmatched(std::string_view method, const TargetModules& wanted, const std::vector<std::string>& candidates,
                                          const std::vector<std::string>& matched, bool every_name, std::string_view kind) {
  const std::vector<std::string> names = last_names(candidates);
  std::string operation(method);
  std::ranges::transform(operation, operation.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
  operation += ".attach";
  const auto refuse = [&](const std::string& name) {
    throw ConfigError(operation, "target_modules \"" + name + "\" matches no " + std::string(kind) + " of this model" +
                                     (names.empty() ? "" : did_you_mean(name, names, std::string(kind) + " modules here")));
  };
  if (wanted.is_list()) {
    for (const std::string& name : wanted.names())
      if ((every_name || matched.empty()) && std::ranges::none_of(candidates, [&](const std::string& path) { return is_suffix_of(name, path); })) refuse(name);
  }
  if (matched.empty()) {
    if (wanted.is_list())
      throw ConfigError(operation, "no module is left: target_modules (" + wanted.text() +
                                       ") without exclude_modules, in layers_to_transform, selects nothing of this model");
    refuse(wanted.text());
  }
}

PEFT_INLINE void detail::save_head_of_task(std::vector<std::string>& modules_to_save, std::string_view task_type, const std::vector<std::string>& paths) {
  const bool classifies = task_type == "SEQ_CLS" || task_type == "TOKEN_CLS";
  if (!classifies && task_type != "QUESTION_ANS") return;
  const std::vector<std::string> heads = classifies ? std::vector<std::string>{"classifier", "score"} : std::vector<std::string>{"qa_outputs"};
  if (std::ranges::none_of(paths, [&](const std::string& path) { return is_named(heads, path); })) return;
  for (const std::string& head : heads)
    if (std::ranges::find(modules_to_save, head) == modules_to_save.end()) modules_to_save.push_back(head);
}

}  // namespace peft
